"""The service under a path of its host: whatever it says about its own paths begins with that one."""

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import problem_object
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import FORM, RAW, WAV, form, part
from tests.app.api.routes.test_problems import BROWSER

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"root_path": "/music/apex"}), redis=redis)


@pytest.fixture
async def proxied(app: FastAPI) -> httpx.AsyncClient:
    """A client behind a proxy."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize("passed_on", ["", "/music/apex"])
async def test_every_path_of_an_answer_leads_back(
    proxied: httpx.AsyncClient, machine: JobStateMachine, passed_on: str
) -> None:
    sent = await proxied.post(f"{passed_on}/score", content=WAV, headers=RAW)
    job = sent.json()
    assert sent.headers["location"] == job["links"]["self"] == f"/music/apex/jobs/{job['id']}"
    links = filter(None, job["links"].values())
    assert {path.removeprefix(job["links"]["self"]) for path in links} == {"", "/cancel", "/events"}
    run = machine.start(job["id"], max_attempts=3, lease_s=60)
    assert run
    machine.fail(run, error=problem_object("audio_silent", "x"))
    read = (await proxied.get(f"{passed_on}/jobs/{job['id']}")).json()
    assert read["error"]["type"].startswith("/music/apex/problems/")
    assert (await proxied.get(read["error"]["type"])).status_code == 200


@pytest.mark.parametrize("passed_on", ["", "/music/apex"])
async def test_a_batch_and_its_problems_lead_back(proxied: httpx.AsyncClient, passed_on: str) -> None:
    sent = await proxied.post(f"{passed_on}/batches", content=form(part("files", b"no audio")), headers=FORM)
    batch = sent.json()
    assert sent.headers["location"] == batch["links"]["self"] == f"/music/apex/batches/{batch['id']}"
    assert batch["links"]["jobs"] == f"/music/apex/jobs?batch_id={batch['id']}"
    problem = batch["items"][0]["problem"]
    assert (problem["type"], problem["instance"]) == (
        "/music/apex/problems/unsupported-media-type",
        "/music/apex/batches",
    )


@pytest.mark.parametrize("passed_on", ["", "/music/apex"])
async def test_errors_and_pages_lead_back(proxied: httpx.AsyncClient, passed_on: str) -> None:
    problem = (await proxied.get(f"{passed_on}/jobs/job_1")).json()
    assert (problem["type"], problem["instance"]) == ("/music/apex/problems/not-found", "/music/apex/jobs/job_1")
    for path in ("/docs", "/problems", "/problems/not-found", "/nowhere"):
        page = (await proxied.get(passed_on + path, headers=BROWSER)).text
        assert 'href="/music/apex/static/' in page
        assert 'href="/static' not in page
        assert 'href="/problems' not in page
    for path in ("/static/page.css", "/static/swagger-ui.css", "/favicon.ico"):
        assert (await proxied.get(passed_on + path)).status_code == 200
    document = (await proxied.get(f"{passed_on}/openapi.json")).json()
    assert document["servers"][0]["url"] == "/music/apex"
    assert "/score" in document["paths"]


async def test_a_path_that_only_begins_alike_is_another(proxied: httpx.AsyncClient) -> None:
    assert (await proxied.get("/music/apexes/livez")).status_code == 404


@pytest.mark.parametrize("root_path", ["apex", "/apex/", "/", "/a b", "//evil.example", "/a//b"])
def test_a_root_path_begins_with_a_slash_and_ends_without(root_path: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        ApiSettings(root_path=root_path)
