"""`POST /score` with a URL: a job at once, whose track is fetched later; the URL is shown to nobody."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.models import Job
from app.core.redis.replicas import NotReplicated
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import SECRET, digest
from tests.app.conftest import client_of
from tests.app.records import found, key_of
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio

URL = f"https://cdn.example/track.mp3?signature={SECRET}"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    hosts = ("cdn.example", "*.other.example")
    return settings.model_copy(update={"audio_url_hosts": hosts, "max_queued_urls": 3})


async def send(client: httpx.AsyncClient, path: str = "/score/url", **body: Any) -> httpx.Response:
    return await client.post(path, json={"url": URL, **body})


def stored_job(services: Services, answer: httpx.Response) -> Job:
    job = services.jobs.get(answer.json()["id"])
    assert job
    return job


@pytest.mark.parametrize("path", ["/score", "/score/url"])
async def test_a_url_makes_a_job_that_is_fetched(client: httpx.AsyncClient, services: Services, path: str) -> None:
    answer = await send(client, path, external_id="t-1", metadata={"album": "x"})
    assert answer.status_code == 202
    view = answer.json()
    assert (view["status"], view["progress"]["stage"], view["queue"]) == ("queued", "fetching", None)
    assert (view["external_id"], view["metadata"]) == ("t-1", {"album": "x"})
    assert view["audio"]["sha256"] is None
    assert (stored_job(services, answer).source or {})["url"] == URL
    assert services.redis.zscore(KEYS.unfetched, view["id"])


async def test_a_job_that_ends_without_its_track_came_no_further_than_the_fetch(client: httpx.AsyncClient) -> None:
    job = (await send(client)).json()
    canceled = (await client.post(job["links"]["cancel"])).json()
    assert (canceled["status"], canceled["progress"]["stage"]) == ("canceled", "fetching")


async def test_no_answer_shows_the_url(client: httpx.AsyncClient, services: Services) -> None:
    job = (await send(client)).json()
    shown = [await client.get(job["links"]["self"]), await client.get("/jobs")]
    shown.append(await client.post(job["links"]["cancel"]))
    for answer in shown:
        assert SECRET not in answer.text
        assert "cdn.example" not in answer.text
    assert found(services.machine, stored_job(services, shown[0])).source is None


async def test_an_event_shows_no_url(client: httpx.AsyncClient, services: Services) -> None:
    job = (await send(client)).json()
    services.machine.cancel(found(services.machine, Job(id=job["id"], storage_key="")))
    answer = await client.get(job["links"]["events"])
    assert "fetching" in answer.text or "canceled" in answer.text
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "url",
    [
        f"http://cdn.example/{SECRET}",
        f"https://evil.example/{SECRET}",
        f"https://user:{SECRET}@cdn.example/",
        "https://cdn.example:8443/",
        "https://169.254.169.254/latest/meta-data/",
        "https://2130706433/",
        "https://cdn.example.evil.example/",
        "file:///etc/passwd",
        "cdn.example/track.mp3",
    ],
)
async def test_a_url_that_is_not_allowed_is_refused_at_once(client: httpx.AsyncClient, app: FastAPI, url: str) -> None:
    answer = await client.post("/score/url", json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "url_forbidden")
    assert app.state.services.redis.zcard(KEYS.unfinished) == 0


async def test_no_url_is_taken_unless_hosts_are_allowed(settings: ApiSettings, redis: Redis) -> None:
    app = create_app(settings.model_copy(update={"audio_url_hosts": ()}), redis=redis)
    async with client_of(app) as client:
        answer = await send(client)
    assert (answer.status_code, answer.json()["code"]) == (422, "url_forbidden")
    assert "APEX_AUDIO_URL_HOSTS" not in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": ""},
        {"url": 7},
        {"url": ["x"]},
        {"url": "https://cdn.example/" + "x" * 5000},
        {"url": URL, "x": 1},
        {"url": URL, "metadata": '{"a": "b"}'},
        {"url": URL, "metadata": {"a": 1}},
    ],
)
async def test_a_body_that_says_something_else_is_refused(client: httpx.AsyncClient, body: Any) -> None:
    answer = await client.post("/score/url", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'"https://cdn.example/"', b"[]", b"{" * 5000])
async def test_what_is_no_json_object_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/score", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_another_body_is_not_taken_for_a_url(client: httpx.AsyncClient) -> None:
    answer = await client.post("/score/url", content=b"url=x", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    large = await client.post("/score/url", content=b" " * 10**6, headers=JSON)
    assert (large.status_code, large.json()["code"]) == (413, "payload_too_large")


async def test_the_same_key_makes_one_job_and_another_url_is_another_request(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await client.post("/score/url", json={"url": URL}, headers=key)
    again = await client.post("/score", json={"url": URL}, headers=key)
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (202, first.content, "true")
    other = await client.post("/score/url", json={"url": URL + "2"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_declared_digest_is_checked(client: httpx.AsyncClient) -> None:
    body = json.dumps({"url": URL}).encode()
    key = {"Idempotency-Key": "k-1"}
    first = await client.post("/score/url", content=body, headers=JSON | key | digest(body))
    again = await client.post("/score/url", content=body, headers=JSON | key | digest(body))
    assert (first.status_code, again.content) == (202, first.content)
    wrong = await client.post("/score/url", content=body, headers=JSON | digest(b"other"))
    assert wrong.json()["code"] == "digest_mismatch"


async def test_no_more_urls_wait_than_may(client: httpx.AsyncClient) -> None:
    assert [(await send(client)).status_code for _ in range(4)] == [202, 202, 202, 503]


async def test_jobs_in_flight_are_limited_as_for_uploads(settings: ApiSettings, redis: Redis) -> None:
    strict = settings.model_copy(update={"require_api_keys": True, "key_jobs_in_flight": 1})
    async with client_of(create_app(strict, redis=redis)) as client:
        key = key_of(redis, "acme")
        assert (await client.post("/score/url", json={"url": URL}, headers=key)).status_code == 202
        answer = await client.post("/score/url", json={"url": URL}, headers=key)
    assert (answer.status_code, answer.json()["violated_policies"]) == (429, ["inflight"])


async def test_a_test_key_has_nothing_fetched(settings: ApiSettings, redis: Redis) -> None:
    app = create_app(settings, redis=redis)
    async with client_of(app) as client, app.router.lifespan_context(app):
        key = key_of(redis, "acme", livemode=False) | {"Prefer": "wait=20"}
        job = (await client.post("/score/url", json={"url": URL}, headers=key)).json()
        failed = await client.post("/score/url", json={"url": URL, "external_id": "test_fail_undecodable"}, headers=key)
    assert (job["status"], job["livemode"]) == ("succeeded", False)
    assert failed.json()["status"] == "failed"
    assert redis.zcard(KEYS.unfetched) == 0


async def test_a_job_that_is_not_replicated_is_taken_back(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = services.machine.create

    def unconfirmed(*args: Any, **options: Any) -> None:
        create(*args, **options)
        raise NotReplicated

    monkeypatch.setattr(services.machine, "create", unconfirmed)
    assert (await send(client)).json()["code"] == "not_replicated"
    assert services.redis.zcard(KEYS.unfetched) == 0


async def test_readiness_warns_while_nobody_fetches(client: httpx.AsyncClient, redis: Redis) -> None:
    async def said() -> str:
        status: str = (await client.get("/readyz?verbose")).json()["checks"]["audio_urls"]["status"]
        return status

    assert await said() == "warning"
    redis.set(KEYS.fetcher, "")
    assert await said() == "ok"
