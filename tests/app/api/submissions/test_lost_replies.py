"""Idempotency keys when something fails on the way: a lost reply, a lost claim."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.exceptions import ConnectionError

from app.api.dependencies import Services
from app.api.submissions.idempotency import IdempotencyKeys
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.client import connect
from tests.app.api.asgi import (
    RAW,
    WAV,
)
from tests.app.api.submissions.requests import (
    KEY,
    OTHER_WAV,
    Paused,
    asked,
    code,
    files,
    jobs_of,
    repeat,
)

pytestmark = pytest.mark.anyio


def failing(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool) -> None:
    """Have a step lose its reply: it fails once, after or before it has done its work."""
    real: Callable[..., Any] = getattr(owner, name)

    def fail(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(owner, name, real)
        if after:
            real(*args, **options)
        raise ConnectionError

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize("after", [True, False])
async def test_a_job_whose_reply_was_lost_is_found_by_the_retry(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    failing(monkeypatch, JobStateMachine, "create", after=after)
    assert code(await repeat(client)) == (503, "redis_unavailable")
    assert len(jobs_of(services)) == int(after)
    answer = await repeat(client)
    assert answer.status_code == 202
    assert jobs_of(services) == files(services) == [answer.json()["id"]]
    assert code(await repeat(client, OTHER_WAV)) == (422, "idempotency_key_reused")


async def test_the_audio_of_a_job_for_which_redis_was_not_reached_is_deleted_at_once(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect("redis://127.0.0.1:1", max_retries=0) as nowhere:
        monkeypatch.setattr(JobStateMachine, "create", lambda *_, **__: nowhere.ping())
        assert code(await client.post("/score", content=WAV, headers=RAW)) == (503, "redis_unavailable")
    assert files(services) == []


async def test_another_track_after_a_lost_reply_is_refused(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, JobStateMachine, "create", after=True)
    await repeat(client)
    assert code(await repeat(client, OTHER_WAV)) == (422, "idempotency_key_reused")
    [job_id] = jobs_of(services)
    assert (services.settings.audio_dir / job_id).read_bytes() == WAV


async def test_an_answer_that_could_not_be_stored_is_given_all_the_same(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.idempotency.lease_s = 0.1
    failing(monkeypatch, IdempotencyKeys, "complete", after=False)
    first = await repeat(client)
    assert first.status_code == 202
    busy = await repeat(client)
    assert (*code(busy), busy.json()["job_id"]) == (409, "idempotency_in_flight", first.json()["id"])
    await asyncio.sleep(0.1)
    assert (await repeat(client)).json()["id"] == first.json()["id"]
    assert len(jobs_of(services)) == 1


async def test_who_lost_the_claim_makes_no_job(
    app: FastAPI, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a process that stood still: the lease is over before the first renewal.
    monkeypatch.setattr("app.api.submissions.idempotency.RENEWALS_PER_LEASE", 0.001)
    services.idempotency.lease_s = 0.5
    paused = Paused(app, WAV)
    answering = asyncio.create_task(paused.post("/score", RAW | KEY))
    await paused.pausing.wait()
    await asyncio.sleep(0.8)
    successor, _ = await asked(app, RAW | KEY)
    paused.go_on.set()
    refused = await answering
    assert (successor.status, refused.status, refused.json()["code"]) == (202, 409, "idempotency_in_flight")
    assert len(jobs_of(services)) == 1
