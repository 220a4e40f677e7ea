"""A service without keys is not used by pages of other sites, through a browser on its machine."""

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import FORM, RAW, WAV, track_form
from tests.app.conftest import client_of
from tests.app.records import key_of

pytestmark = pytest.mark.anyio

OURS = ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1", "127.0.0.1:8000", "127.8.7.6:1", "[::1]", "[::1]:8000"]
OTHERS = [
    "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0:8000",
    "[::ffff:8.8.8.8]", "evil@localhost", "localhost@evil.example", "localhost:8000:1", "localhost/", "", "[::1", "x:y",
]  # fmt: skip
READS = ("/jobs", "/jobs/job_1", "/jobs/job_1/events", "/batches/bat_1", "/model", "/capacity")


def app_of(settings: ApiSettings, redis: Redis, **changes: object) -> FastAPI:
    return create_app(settings.model_copy(update=changes), redis=redis)


async def status(client: httpx.AsyncClient, method: str, path: str, **headers: str) -> int:
    answer = await client.request(method, path, headers=headers)
    if answer.status_code == 403:
        assert answer.json()["code"] == "cross_site_request"
    return answer.status_code


@pytest.mark.parametrize("host", OURS)
async def test_by_a_name_of_this_machine_it_is_open(client: httpx.AsyncClient, host: str) -> None:
    assert await status(client, "GET", "/jobs", host=host) == 200
    assert await status(client, "GET", "/jobs", host=host, authorization="Bearer none") == 200


@pytest.mark.parametrize("host", OTHERS)
async def test_by_another_name_it_is_not(client: httpx.AsyncClient, host: str) -> None:
    assert [await status(client, "GET", path, host=host) for path in READS] == [403] * len(READS)
    assert await status(client, "POST", "/score", host=host) == 403
    assert await status(client, "GET", "/jobs", host=host, authorization="Bearer none") == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "file://", ""])
async def test_a_page_of_another_site_changes_nothing(client: httpx.AsyncClient, origin: str) -> None:
    sent = await client.post("/score", content=track_form(), headers=FORM | {"Origin": origin})
    assert (sent.status_code, sent.json()["code"]) == (403, "cross_site_request")
    for method, path in (("DELETE", "/jobs/job_1"), ("POST", "/jobs/job_1/cancel"), ("POST", "/batches")):
        assert await status(client, method, path, origin=origin) == 403
    assert (await client.get("/jobs")).json()["items"] == []


async def test_its_own_pages_and_those_of_named_origins_may_call_it(settings: ApiSettings, redis: Redis) -> None:
    async with client_of(app_of(settings, redis, cors_origins=("https://app.example",))) as client:
        for origin in ("http://localhost", "https://app.example"):
            sent = await client.post("/score", content=WAV, headers=RAW | {"Origin": origin})
            assert sent.status_code == 202


async def test_programs_that_send_no_host_are_served(app: FastAPI) -> None:
    async with client_of(app) as client:
        request = client.build_request("GET", "/jobs")
        del request.headers["host"]
        assert (await client.send(request)).status_code == 200


async def test_other_names_can_be_allowed(settings: ApiSettings, redis: Redis) -> None:
    async with client_of(app_of(settings, redis, allowed_hosts=("apex.example",))) as client:
        assert await status(client, "GET", "/jobs", host="Apex.example:8000") == 200
        assert await status(client, "GET", "/jobs", host="localhost") == 200
        assert await status(client, "GET", "/jobs", host="evil.example") == 403


async def test_a_service_that_is_meant_to_be_open_has_any_name_unless_some_are_given(
    settings: ApiSettings, redis: Redis
) -> None:
    open_to_all = {"host": "0.0.0.0", "allow_unauthenticated": True}
    async with client_of(app_of(settings, redis, **open_to_all)) as client:
        assert await status(client, "GET", "/jobs", host="evil.example", origin="http://evil.example") == 200
    async with client_of(app_of(settings, redis, **open_to_all, allowed_hosts=("localhost",))) as client:
        assert await status(client, "GET", "/jobs", host="evil.example") == 403


async def test_with_a_key_every_name_and_origin_will_do(client: httpx.AsyncClient, redis: Redis) -> None:
    key = key_of(redis, "alice")
    assert await status(client, "GET", "/jobs", host="evil.example", **key) == 200
    assert await status(client, "POST", "/jobs/job_1/cancel", origin="http://evil.example", **key) == 404
    assert await status(client, "GET", "/jobs", host="evil.example") == 401


async def test_what_holds_no_data_is_there_under_every_name(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/docs", "/problems"):
        assert await status(client, "GET", path, host="evil.example") == 200


@pytest.mark.parametrize(("text", "hosts"), [("a.example, B.example", ("a.example", "b.example")), ("", ())])
def test_names_are_split_at_commas(monkeypatch: pytest.MonkeyPatch, text: str, hosts: tuple[str, ...]) -> None:
    monkeypatch.setenv("APEX_ALLOWED_HOSTS", text)
    assert ApiSettings().allowed_hosts == hosts
