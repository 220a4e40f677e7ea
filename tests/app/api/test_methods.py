"""HEAD and OPTIONS on every path, and CORS for the origins that an operator names."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import RAW, WAV
from tests.app.api.documented import document
from tests.app.conftest import client_of

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example"
OTHER = "https://evil.example"


@pytest.fixture
async def job(client: httpx.AsyncClient) -> str:
    location: str = (await client.post("/score", content=WAV, headers=RAW)).headers["location"]
    return location


async def test_head_is_get_without_its_body(client: httpx.AsyncClient, job: str) -> None:
    paths = [path for path, item in document()["paths"].items() if "get" in item]
    for path in [*paths, "/docs", "/openapi.json", "/openapi-3.0.json", "/static/page.css", "/favicon.ico", "/nowhere"]:
        filled = path.replace("/jobs/{id}", job).replace("{id}", "bat_1").replace("{slug}", "not-found")
        if not filled.endswith("/events"):
            got, head = await client.get(filled), await client.head(filled)
            assert (head.status_code, head.content) == (got.status_code, b""), filled
            assert head.headers["content-type"] == got.headers["content-type"]


async def test_head_on_events_does_not_wait_for_any(client: httpx.AsyncClient, job: str) -> None:
    head = await client.head(f"{job}/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")


async def test_options_names_the_methods(client: httpx.AsyncClient, job: str) -> None:
    for path, methods in {
        "/score": "OPTIONS, POST",
        "/jobs": "GET, HEAD, OPTIONS",
        job: "DELETE, GET, HEAD, OPTIONS",
        f"{job}/cancel": "OPTIONS, POST",
        "/docs": "GET, HEAD, OPTIONS",
    }.items():
        answer = await client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, methods), path
    assert (await client.options("/nowhere")).status_code == 404


async def test_options_needs_no_key_and_tells_nothing_of_jobs(settings: ApiSettings, redis: Redis) -> None:
    closed = create_app(settings.model_copy(update={"require_api_keys": True}), redis=redis)
    async with client_of(closed) as client:
        assert (await client.options("/jobs/job_1")).status_code == 204


def preflight(origin: str, *, method: str = "POST", headers: str = "authorization, idempotency-key") -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}


async def test_by_default_no_page_of_another_origin_may_call(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.options("/score", headers=preflight(ORIGIN)),
        await client.get("/livez", headers={"Origin": ORIGIN}),
    ):
        assert answer.is_success
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.fixture
def app_with_origins(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"cors_origins": (ORIGIN,)}), redis=redis)


async def test_pages_of_a_named_origin_may_call(app_with_origins: FastAPI) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app_with_origins), base_url="http://localhost"
    ) as client:
        for path, method in (("/score", "POST"), ("/jobs/job_1", "DELETE")):
            allowed = await client.options(path, headers=preflight(ORIGIN, method=method))
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == ORIGIN
            assert method in allowed.headers["access-control-allow-methods"]
            assert "idempotency-key" in allowed.headers["access-control-allow-headers"]
            assert "access-control-allow-credentials" not in allowed.headers
        answer = await client.post("/score", content=WAV, headers=RAW | {"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert {"Location", "Retry-After", "ETag", "RateLimit", "RateLimit-Policy", "X-Request-Id"} <= exposed
    assert "Origin" in answer.headers["vary"]


async def test_pages_of_other_origins_still_may_not(app_with_origins: FastAPI) -> None:
    async with client_of(app_with_origins) as client:
        for origin in (OTHER, "null", ORIGIN + ".evil.example", ORIGIN.upper()):
            answer = await client.options("/score", headers=preflight(origin))
            assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (204, False)


async def test_a_named_origin_can_read_errors(app_with_origins: FastAPI) -> None:
    async with client_of(app_with_origins) as client:
        answer = await client.get("/jobs/job_1", headers={"Origin": ORIGIN})
    assert answer.status_code == 404
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_origins_are_named_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEX_CORS_ORIGINS", f"{ORIGIN}, http://localhost:5173,")
    assert ApiSettings().cors_origins == (ORIGIN, "http://localhost:5173")


@pytest.mark.parametrize("origins", ["*", "app.example", f"{ORIGIN}/", f"{ORIGIN}/page", "https://a b"])
def test_what_is_no_origin_is_refused(origins: str, data_dir: Path) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        ApiSettings(data_dir=data_dir, cors_origins=origins)
