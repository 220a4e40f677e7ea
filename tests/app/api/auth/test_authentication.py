"""Authentication: which routes need a key, which keys are valid, what a scope allows, and what a refusal costs."""

import hashlib
import logging
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from redis import Redis

from app.api.auth import authentication
from app.api.auth.api_keys import MARK, KeyStore
from app.api.auth.authentication import FORWARDED_HEADERS, KEYS_LOST, RECHECK_INTERVAL_S, Authenticator
from app.api.dependencies import Services
from app.core.callers import SCOPES, Limits
from app.core.problems import Problem
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import RAW, SECRET, WAV, Client, check_problem
from tests.app.conftest import client_of
from tests.app.records import key_of, queued
from tests.conftest import KEYS, audio_files

pytestmark = pytest.mark.anyio

OPEN_PATHS = {"/livez", "/readyz", "/healthz", "/problems", "/problems/{slug}"}
FRAMEWORK_PATHS = {"/docs", "/favicon.ico", "/openapi.json", "/openapi-3.0.json"}


def operations(app: FastAPI) -> list[tuple[str, str]]:
    """Every documented method and path."""
    paths = app.openapi()["paths"].items()
    return [(method.upper(), path) for path, item in paths for method in item if method != "parameters"]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# keys\n\nalice {digest(SECRET)}\nalice {digest('newer')}\nbob\t{digest('bobs').upper()}\n")
    return path


@pytest.fixture
def closed(settings: ApiSettings, keys_file: Path, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"api_keys_file": keys_file}), redis=redis)


async def get(app: FastAPI, headers: dict[str, str]) -> httpx.Response:
    async with client_of(app) as client:
        return await client.get("/model", headers=headers)


@pytest.mark.parametrize("key", [SECRET, "newer", "bobs"])
async def test_a_valid_key_is_accepted_in_either_header(closed: FastAPI, key: str) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"X-API-Key": key}):
        assert (await get(closed, headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": SECRET},
        {"Authorization": f"Bearer {digest(SECRET)}"},
        {"X-API-Key": ""},
        {"X-API-Key": "alice"},
        {"X-API-Key": "\xff"},
        {"X-API-Key": "x" * 10_000},
    ],
)
async def test_any_other_key_is_refused(closed: FastAPI, headers: dict[str, str]) -> None:
    answer = await get(closed, {name: value.encode("latin-1") for name, value in headers.items()})  # type: ignore[misc]
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_in_the_query_does_not_count(closed: FastAPI) -> None:
    async with client_of(closed) as client:
        assert (await client.get(f"/model?api_key={SECRET}")).status_code == 401


async def test_every_route_is_closed_unless_it_is_meant_to_be_open(closed: FastAPI) -> None:
    async with client_of(closed) as client:
        for method, path in operations(closed):
            answer = await client.request(method, path)
            assert (answer.status_code == 401) == (path not in OPEN_PATHS), path


async def test_there_is_no_route_that_the_document_does_not_know(closed: FastAPI) -> None:
    paths = {route.path for route in closed.routes if isinstance(route, APIRoute)}
    assert paths <= set(closed.openapi()["paths"]) | FRAMEWORK_PATHS


async def test_the_pages_about_the_service_are_open(closed: FastAPI) -> None:
    async with client_of(closed) as client:
        for path in ("/docs", "/static/docs.js", "/favicon.ico", "/openapi.json", "/problems", "/livez", "/readyz"):
            assert (await client.get(path)).status_code == 200


async def test_a_body_is_not_read_before_the_key_is_checked(closed: FastAPI) -> None:
    client = Client(closed, [])
    answer = await client.post("/score", RAW | {"Content-Length": str(50_000_000)})
    check_problem(401, answer.headers["content-type"], answer.json())
    assert answer.headers["connection"] == "close"
    assert client.asked == 0
    assert audio_files(closed.state.services.settings.audio_dir) == []


@pytest.fixture
def guarded(settings: ApiSettings, redis: Redis) -> FastAPI:
    """An application that asks for keys, of which there are none yet."""
    return create_app(settings.model_copy(update={"require_api_keys": True}), redis=redis)


async def test_a_key_made_while_the_service_runs_opens_it(guarded: FastAPI, redis: Redis) -> None:
    assert (await get(guarded, {})).status_code == 401
    assert (await get(guarded, key_of(redis, "acme"))).status_code == 200


async def test_a_revoked_key_is_refused_at_once(guarded: FastAPI, redis: Redis) -> None:
    key, secret = KeyStore(redis, KEYS).create(tenant="acme")
    headers = {"X-API-Key": secret}
    assert (await get(guarded, headers)).status_code == 200
    KeyStore(redis, KEYS).revoke(key.id)
    assert (await get(guarded, headers)).status_code == 401


async def test_several_keys_of_a_tenant_open_the_same_jobs(guarded: FastAPI, redis: Redis, services: Services) -> None:
    job = queued(services.machine, tenant="acme")
    async with client_of(guarded) as client:
        for headers in (key_of(redis, "acme"), key_of(redis, "acme")):
            assert (await client.get(f"/jobs/{job.id}", headers=headers)).status_code == 200


async def test_another_tenants_job_and_a_random_id_get_the_same_404(
    guarded: FastAPI, redis: Redis, services: Services
) -> None:
    headers = key_of(redis, "acme")
    foreign = queued(services.machine, tenant="other")
    gone = queued(services.machine, tenant="other")
    services.machine.purge(gone)
    answers = []
    async with client_of(guarded) as client:
        for job_id in (foreign.id, gone.id, "job_" + "0" * 32):
            answer = await client.get(f"/jobs/{job_id}", headers=headers | {"X-Request-Id": "r"})
            answers.append((answer.status_code, answer.text.replace(job_id, "ID")))
    assert answers[0][0] == 404
    assert len(set(answers)) == 1


async def test_a_scope_that_the_key_lacks_is_named(guarded: FastAPI, redis: Redis) -> None:
    headers = key_of(redis, "acme", "jobs:read")
    client = Client(guarded, [])
    answer = await client.post("/score", RAW | headers)
    check_problem(403, answer.headers["content-type"], answer.json())
    assert (answer.json()["code"], answer.json()["required_scope"]) == ("forbidden_scope", "score:write")
    assert client.asked == 0


#: What each route asks for beside a key. `None`: any key will do.
SCOPE_OF = {
    "POST /score": "score:write",
    "POST /score/raw": "score:write",
    "POST /score/url": "score:write",
    "POST /batches": "score:write",
    "POST /batches/urls": "score:write",
    "POST /batches/lines": "score:write",
    "GET /batches/{id}": "jobs:read",
    "GET /batches/{id}/deliveries": "jobs:read",
    "GET /batches": "jobs:read",
    "GET /batches/{id}/events": "jobs:read",
    "GET /batches/{id}/results": "jobs:read",
    "POST /batches/{id}/cancel": "score:write",
    "GET /results": "jobs:read",
    "GET /jobs": "jobs:read",
    "GET /jobs/{id}": "jobs:read",
    "GET /jobs/{id}/deliveries": "jobs:read",
    "GET /jobs/{id}/embedding": "embeddings:read",
    "GET /jobs/{id}/events": "jobs:read",
    "GET /webhooks/test/{delivery_id}": "jobs:read",
    "POST /batches/{id}/deliveries/{delivery_id}/redeliver": "score:write",
    "POST /jobs/{id}/deliveries/{delivery_id}/redeliver": "score:write",
    "POST /webhooks/test": "score:write",
    "POST /jobs/{id}/cancel": "score:write",
    "DELETE /jobs/{id}": "jobs:delete",
    "POST /compare": "jobs:read",
    "GET /capacity": None,
    "GET /model": None,
    "GET /operations": "ops:read",
    "GET /usage": None,
}


async def test_each_route_asks_for_its_scope(guarded: FastAPI, redis: Redis) -> None:
    headers = {scope: key_of(redis, "acme", *(set(SCOPES) - {scope})) for scope in SCOPES}
    refused = {}
    async with client_of(guarded) as client:
        for method, path in operations(guarded):
            if path not in OPEN_PATHS:
                answers = {s: await client.request(method, path, headers=h) for s, h in headers.items()}
                refused[f"{method} {path}"] = next((s for s, a in answers.items() if a.status_code == 403), None)
    assert refused == SCOPE_OF


async def test_without_keys_everybody_is_the_open_tenant_and_has_no_limits(client: httpx.AsyncClient) -> None:
    answer = await client.post("/score", content=WAV, headers=RAW | {"Authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 202
    assert "ratelimit" not in answer.headers


def new_authenticator(redis: Redis, *, required: bool = False) -> Authenticator:
    return Authenticator(KeyStore(redis, KEYS), required=required, limits=Limits(1, 1, 1))


def test_with_the_first_key_anonymous_callers_are_refused_within_a_second(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = new_authenticator(redis)
    assert authenticator.caller(None).tenant == "open"
    KeyStore(redis, KEYS).create(tenant="acme")
    assert authenticator.accepts_anonymous()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + RECHECK_INTERVAL_S)
    assert not authenticator.accepts_anonymous()
    with pytest.raises(Problem, match="unauthorized"):
        authenticator.caller(None)


async def test_the_first_key_is_accepted_at_once(client: httpx.AsyncClient, redis: Redis) -> None:
    await client.get("/model")
    _, secret = KeyStore(redis, KEYS).create(tenant="acme", limits=Limits(requests_per_minute=9))
    answer = await client.get("/model", headers={"Authorization": f"Bearer {secret}"})
    assert "ratelimit" in answer.headers


def test_anonymous_callers_stay_refused_when_the_keys_are_gone(redis: Redis) -> None:
    _, secret = KeyStore(redis, KEYS).create(tenant="acme")
    restarted = new_authenticator(redis)
    assert restarted.caller(secret).tenant == "acme"
    redis.flushall()
    with pytest.raises(Problem, match="unauthorized"):
        restarted.caller(None)


def test_an_unknown_key_id_takes_the_steps_of_a_wrong_secret(redis: Redis) -> None:
    store = KeyStore(redis, KEYS)
    _, known = store.create(tenant="acme")
    assert store.find(known[:-1] + "é") is None
    wrong, unknown = (steps(store, key) for key in (known[:-1] + "0", "msk_live_nobodyatall_" + known[-43:]))
    assert wrong == unknown
    assert "compare_digest" in wrong


def steps(store: KeyStore, presented: str) -> list[str]:
    """What the look-up of a key calls, in order."""
    called: list[str] = []

    def note(frame: FrameType, event: str, function: Any) -> None:
        if frame.f_globals["__name__"] == KeyStore.__module__ and event in ("call", "c_call"):
            called.append(frame.f_code.co_name if event == "call" else function.__name__)

    sys.setprofile(note)
    try:
        assert store.find(presented) is None
    finally:
        sys.setprofile(None)
    return called


async def test_a_service_that_had_keys_stays_closed_when_redis_loses_them(
    settings: ApiSettings, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Also after a restart of the front end, which knows only what is in the data folder."""
    headers = key_of(redis, "acme")
    assert (await get(create_app(settings, redis=redis), headers)).status_code == 200
    assert (await get(create_app(settings, redis=redis), {})).status_code == 401
    redis.flushall()
    for shown in (headers, {}):
        answer = await get(create_app(settings, redis=redis), shown)
        assert (answer.status_code, answer.json()["detail"]) == (401, KEYS_LOST)
    assert "apex keys create" in caplog.text
    assert (await get(create_app(settings, redis=redis), key_of(redis, "acme"))).status_code == 200


async def test_a_service_is_opened_again_by_its_operator(settings: ApiSettings, redis: Redis) -> None:
    key_of(redis, "acme")
    assert (await get(create_app(settings, redis=redis), {})).status_code == 401
    redis.flushall()
    (settings.data_dir / MARK).unlink()
    assert (await get(create_app(settings, redis=redis), {})).status_code == 200


async def test_a_data_folder_that_cannot_be_written_closes_the_service_all_the_same(
    settings: ApiSettings, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.data_dir / f".{MARK}.partial").mkdir(parents=True)  # where the mark would be written
    key_of(redis, "acme")
    assert (await get(create_app(settings, redis=redis), {})).status_code == 401
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("header", sorted(FORWARDED_HEADERS))
@pytest.mark.parametrize("recheck_interval_s", [0.0, 60.0])
async def test_an_open_service_behind_a_proxy_says_so_once(
    client: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    header: bytes,
    recheck_interval_s: float,
) -> None:
    authentication._warn_of_proxy.cache_clear()
    monkeypatch.setattr(authentication, "RECHECK_INTERVAL_S", recheck_interval_s)
    await client.get("/model")
    assert "proxy" not in caplog.text
    for _ in range(3):
        await client.get("/model", headers={header: b"192.0.2.1"})
    assert caplog.text.count("APEX_REQUIRE_API_KEYS") == 1


async def test_no_log_line_holds_a_key(guarded: FastAPI, redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    key, secret = KeyStore(redis, KEYS).create(tenant="acme")
    with caplog.at_level(logging.DEBUG):
        for presented in (secret, secret + "x", SECRET):
            await get(guarded, {"Authorization": f"Bearer {presented}"})
    lines = [record for record in caplog.records if record.name == "app.requests"]
    assert [getattr(line, "key_id", None) for line in lines] == [key.id, None, None]
    assert [getattr(line, "tenant", None) for line in lines] == ["acme", None, None]
    text = " ".join(str(vars(record)) for record in caplog.records if record.name.startswith("app"))
    assert secret.rpartition("_")[2] not in text
    assert SECRET not in text
