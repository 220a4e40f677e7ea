"""`Prefer: wait=N` and `?wait=N`: a response as soon as the job has ended, and no later than was asked for."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.dependencies import Services
from app.api.jobs.long_poll import preferred_wait_s
from app.api.schemas.fields import timestamp
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import problem_object
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.live import eventually, live
from tests.app.conftest import client_of
from tests.app.records import RESULT, queued, running, succeeded
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


#: Longer than any test may take: whoever waits to its end fails.
LONG = 300


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"max_wait_s": LONG})


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client, app.router.lifespan_context(app):
        yield client


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("wait=20", 20),
        ("respond-async, wait=5", 5),
        ('handling=lenient; x="y", WAIT = "7"', 7),
        ("wait=500", 30),
        ("wait=0", 0),
        ("wait=-1", 0),
        ("wait=soon", 0),
        ("await=9", 0),
        ("wait=9e9", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_a_preference_that_cannot_be_read_is_none(header: str | None, wait_s: int) -> None:
    assert preferred_wait_s(header, max_s=30) == wait_s


ASKING: list[dict[str, Any]] = [{"headers": {"Prefer": f"wait={LONG}"}}, {"params": {"wait": LONG}}]


@pytest.mark.parametrize("asking", ASKING)
async def test_a_wait_ends_with_the_job(
    client: httpx.AsyncClient, jobs: JobStateMachine, asking: dict[str, Any]
) -> None:
    run = running(jobs)
    answer = await answer_after(lambda: jobs.succeed(run, result=RESULT), client.get(f"/jobs/{run.id}", **asking))
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == f"wait={LONG}"


async def test_a_job_that_fails_within_the_wait_is_a_200(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    error = problem_object("audio_silent", "x")
    answer = await answer_after(lambda: jobs.fail(run, error=error), client.get(f"/jobs/{run.id}?wait={LONG}"))
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")


async def test_a_job_that_is_deleted_within_the_wait_is_gone(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    answer = await answer_after(lambda: jobs.purge(run), client.get(f"/jobs/{run.id}?wait={LONG}"))
    assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")
    assert answer.json()["expired_at"] == timestamp(jobs.store.expired_at(run.id, tenant=run.tenant))


async def answer_after(happening: Callable[[], object], request: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
    """The answer to a request that waits for what happens, and for nothing else."""
    waiting = asyncio.create_task(request)
    await asyncio.sleep(0.2)
    assert not waiting.done()
    happening()
    return await waiting


async def test_a_job_that_is_over_is_not_waited_for(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    answer = await client.get(f"/jobs/{succeeded(jobs).id}", params={"wait": LONG})
    assert answer.headers["preference-applied"] == f"wait={LONG}"


async def test_a_wait_that_sees_no_end_gives_the_job_as_it_is(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    began = time.monotonic()
    answer = await client.get(f"/jobs/{queued(jobs).id}", headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert "preference-applied" not in answer.headers
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(("asked", "longest_s"), [({"wait": 900}, 1), ({"wait": 0}, 0)])
async def test_a_wait_is_cut_to_the_servers_limit(
    settings: ApiSettings, redis: Redis, asked: dict[str, int], longest_s: float
) -> None:
    app = create_app(settings.model_copy(update={"max_wait_s": 1}), redis=redis)
    async with client_of(app) as client, app.router.lifespan_context(app):
        began = time.monotonic()
        await client.get(f"/jobs/{queued(app.state.services.machine).id}", params=asked)
        assert time.monotonic() - began >= longest_s


@pytest.mark.parametrize("wait", ["-1", "x", "1.5"])
async def test_a_wait_that_is_no_number_is_refused(client: httpx.AsyncClient, wait: str) -> None:
    answer = await client.get("/jobs/job_1", params={"wait": wait})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/wait")


async def test_one_waiter_too_many_is_answered_at_once(settings: ApiSettings, redis: Redis) -> None:
    app = create_app(settings.model_copy(update={"max_listeners": 1}), redis=redis)
    run = running(app.state.services.machine)
    async with client_of(app) as client, app.router.lifespan_context(app):
        first = asyncio.create_task(client.get(f"/jobs/{run.id}?wait={LONG}"))
        await asyncio.sleep(0.2)
        second = await client.get(f"/jobs/{run.id}?wait={LONG}")
        assert second.json()["status"] == "running"
        app.state.services.machine.succeed(run, result=RESULT)
        assert (await first).json()["status"] == "succeeded"


async def test_a_wait_outlives_no_key(client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis) -> None:
    key, secret = KeyStore(redis, KEYS).create(tenant="alice")
    run = running(jobs, tenant="alice")

    def revoke_and_end() -> None:
        KeyStore(redis, KEYS).revoke(key.id)
        jobs.succeed(run, result=RESULT)

    headers = {"Authorization": f"Bearer {secret}"}
    answer = await answer_after(revoke_and_end, client.get(f"/jobs/{run.id}?wait={LONG}", headers=headers))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_no_end_is_missed_however_it_falls(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    runs = [running(jobs) for _ in range(50)]

    def end_all() -> None:
        for run in runs:
            jobs.succeed(run, result=RESULT)

    thread = threading.Thread(target=end_all)
    requests = [asyncio.create_task(client.get(f"/jobs/{run.id}?wait={LONG}")) for run in runs]
    thread.start()
    answers = await asyncio.gather(*requests)
    thread.join()
    assert {answer.json()["status"] for answer in answers} == {"succeeded"}


def test_a_client_that_leaves_waits_no_longer(app: FastAPI, jobs: JobStateMachine) -> None:
    run = running(jobs)
    with live(app) as server:
        with server.client() as client, pytest.raises(httpx.ReadTimeout):
            client.get(f"/jobs/{run.id}?wait={LONG}", timeout=0.3)
        eventually(lambda: server.services.notifications._count == 0)
        eventually(lambda: not server.server.server_state.tasks)


def test_a_server_that_stops_ends_every_wait(app: FastAPI, jobs: JobStateMachine, redis: Redis) -> None:
    run = running(jobs)
    answers: list[httpx.Response] = []
    with live(app) as server:
        thread = threading.Thread(target=lambda: answers.append(server.client().get(f"/jobs/{run.id}?wait={LONG}")))
        thread.start()
        eventually(lambda: redis.pubsub_numpat() == 1)
        server.stop()
        thread.join()
    assert [answer.json()["status"] for answer in answers] == ["running"]
