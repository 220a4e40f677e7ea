"""Limits of an API key on `POST /score`: requests, bytes, unfinished jobs, and jobs of its own tenant only."""

import asyncio
import re

import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.dependencies import Services
from app.core.callers import Limits
from tests.app.api.asgi import (
    RAW,
    WAV,
    AsgiResponse,
    Client,
    body_messages,
    check_problem,
    chunked,
    digest,
)
from tests.app.api.submissions.requests import (
    KEY,
    asked,
    files,
    score,
)
from tests.app.conftest import client_of
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


def key_with(redis: Redis, tenant: str = "acme", **limits: int) -> dict[str, str]:
    return {"X-API-Key": KeyStore(redis, KEYS).create(tenant=tenant, limits=Limits(**limits))[1]}


def check_limited(answer: AsgiResponse, policy: str, n_asked: int) -> None:
    check_problem(429, answer.headers["content-type"], answer.json())
    assert (answer.json()["code"], answer.json()["violated_policies"]) == ("quota_exceeded", [policy])
    assert int(answer.headers["retry-after"]) >= 1
    assert policy in answer.headers["ratelimit"]
    assert n_asked == 0


async def test_a_job_belongs_to_the_tenant_of_its_key(guarded: FastAPI, redis: Redis, services: Services) -> None:
    answer, _ = await asked(guarded, RAW | key_with(redis))
    job = services.jobs.get(answer.json()["id"])
    assert job
    assert job.tenant == "acme"
    assert 'inflight";r=200' in answer.headers["ratelimit"]
    assert answer.headers["ratelimit-policy"].startswith('"burst";q=1200;w=60, "inflight";q=200;qu=')


async def test_tenants_share_neither_idempotency_keys_nor_cached_scores(
    guarded: FastAPI, redis: Redis, services: Services
) -> None:
    acme, other = key_with(redis), key_with(redis, "other")
    first, _ = await asked(guarded, RAW | KEY | acme)
    score(services, first.json()["id"])
    second, _ = await asked(guarded, RAW | KEY | other)
    assert (second.status, "idempotent-replayed" in second.headers) == (202, False)
    third, _ = await asked(guarded, RAW | acme)
    assert (third.status, third.json()["cached"]) == (200, True)


async def test_requests_a_minute_are_limited_whatever_they_ask_for(guarded: FastAPI, redis: Redis) -> None:
    headers = key_with(redis, requests_per_minute=2)
    async with client_of(guarded) as client:
        left = [(await client.get("/jobs/x", headers=headers)).headers["ratelimit"] for _ in range(2)]
    assert [value.partition(";t=")[0] for value in left] == ['"burst";r=1', '"burst";r=0']
    answer, n_asked = await asked(guarded, RAW | headers)
    check_limited(answer, "burst", n_asked)
    assert int(answer.headers["retry-after"]) <= 30


async def test_unfinished_jobs_are_limited(guarded: FastAPI, redis: Redis, services: Services) -> None:
    headers = key_with(redis, jobs_in_flight=1)
    first, _ = await asked(guarded, RAW | headers)
    answer, n_asked = await asked(guarded, RAW | headers)
    check_limited(answer, "inflight", n_asked)
    services.machine.cancel(services.jobs.get(first.json()["id"]) or pytest.fail("no job"))
    assert (await asked(guarded, RAW | headers))[0].status == 202


async def test_many_at_once_do_not_slip_past_the_limit_of_jobs(
    guarded: FastAPI, redis: Redis, services: Services
) -> None:
    headers = key_with(redis, jobs_in_flight=3)
    found = await asyncio.gather(*(asked(guarded, RAW | headers) for _ in range(20)))
    statuses = [answer.status for answer, _ in found]
    assert (statuses.count(202), statuses.count(429)) == (3, 17)
    assert len(files(services)) == 3


async def test_bytes_a_day_are_counted_as_they_come(guarded: FastAPI, redis: Redis) -> None:
    headers = key_with(redis, bytes_per_day=3 * len(WAV)) | RAW
    async with client_of(guarded) as client:
        assert (await client.post("/score", content=WAV, headers=headers)).status_code == 202
        assert (await client.post("/score", content=chunked(WAV, b"x" * len(WAV)), headers=headers)).status_code == 202
        left = (await client.get("/jobs/x", headers=headers)).headers["ratelimit"]
    assert re.search(r'"bytes";r=0;t=86\d{3}', left), "a day's, less the seconds since they came"
    for declared in ({"Content-Length": "100"}, {}):
        answer, n_asked = await asked(guarded, headers | declared)
        check_limited(answer, "bytes", n_asked)


async def test_bytes_that_were_declared_and_never_read_are_not_counted(guarded: FastAPI, redis: Redis) -> None:
    headers = key_with(redis, bytes_per_day=100_000) | RAW
    for body in (b"<html>" + b"x" * 100, WAV):
        client = Client(guarded, body_messages([body], end=False))
        await client.post("/score", headers | {"Content-Length": "90000"})
    async with client_of(guarded) as check:
        left = (await check.get("/jobs/x", headers=headers)).headers["ratelimit"]
    assert f'"bytes";r={100_000 - 106 - len(WAV)}' in left


async def test_a_replay_is_given_although_every_limit_of_work_is_reached(guarded: FastAPI, redis: Redis) -> None:
    headers = RAW | KEY | digest(WAV) | key_with(redis, jobs_in_flight=1, bytes_per_day=len(WAV))
    first, _ = await asked(guarded, headers | {"Content-Length": str(len(WAV))})
    second, n_asked = await asked(guarded, headers | {"Content-Length": str(len(WAV))})
    assert (first.status, second.status, n_asked) == (202, 202, 0)
    assert second.headers["idempotent-replayed"] == "true"
