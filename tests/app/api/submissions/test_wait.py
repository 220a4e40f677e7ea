"""`Prefer: wait` on `POST /score`: the response is the end of the job, if it comes in time."""

import asyncio
from typing import Any

import httpx
import pytest

from app.api.dependencies import Services
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.problems import Problem
from tests.app.api.submissions.requests import (
    jobs_of,
    post,
)
from tests.app.records import MODEL, RESULT
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


async def end_soon(services: Services, **changes: Any) -> None:
    while not (open_ids := UnfinishedJobs(services.redis, KEYS).ids()):
        await asyncio.sleep(0.01)
    run = services.machine.start(open_ids[0], max_attempts=3, lease_s=60)
    assert run
    if changes:
        services.machine.fail(run, **changes)
    else:
        services.machine.succeed(run, result=RESULT, model=MODEL)


async def test_a_job_that_ends_within_the_wait_is_the_answer(client: httpx.AsyncClient, services: Services) -> None:
    answer, _ = await asyncio.gather(post(client, Prefer="wait=20"), end_soon(services))
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=20"


async def test_a_run_that_failed_is_a_request_that_worked(client: httpx.AsyncClient, services: Services) -> None:
    error = Problem("audio_silent").object()
    answer, _ = await asyncio.gather(post(client, Prefer="wait=20"), end_soon(services, error=error))
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "audio_silent")


async def test_a_wait_that_was_too_short_ends_with_the_job_as_it_is(client: httpx.AsyncClient) -> None:
    answer = await post(client, Prefer="wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert "preference-applied" not in answer.headers


async def test_who_repeats_a_waiting_request_gets_the_job_at_once_and_afterwards_its_end(
    client: httpx.AsyncClient, services: Services
) -> None:
    waiting = asyncio.create_task(post(client, Prefer="wait=20", Idempotency_Key="k"))
    while not jobs_of(services):
        await asyncio.sleep(0.01)
    while (early := await post(client, Idempotency_Key="k")).status_code == 409:
        await asyncio.sleep(0.01)
    assert (early.status_code, early.headers["idempotent-replayed"]) == (202, "true")
    await end_soon(services)
    first, late = await waiting, await post(client, Idempotency_Key="k")
    assert first.status_code == late.status_code == 200
    assert first.content == late.content
    assert first.json()["id"] == early.json()["id"]
