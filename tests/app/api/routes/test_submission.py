"""`POST /score` beside the track: repeated requests, digests, known scores, deadlines, waiting, and limits."""

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from redis.exceptions import ConnectionError
from starlette.types import Message

from app.api.auth.api_keys import KeyStore
from app.api.dependencies import Services
from app.api.submissions.idempotency import IdempotencyKeys
from app.core.callers import Limits
from app.core.jobs.models import Job, JobState
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.problems import Problem
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import (
    BOUNDARY,
    FORM,
    RAW,
    WAV,
    Answer,
    Client,
    body_messages,
    check_problem,
    chunked,
    form,
    part,
    track_form,
)
from tests.app.conftest import client_of
from tests.app.records import MODEL, RESULT, found, live_worker, queued

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8"'}
OTHER_WAV = WAV[:-1] + b"\0"


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client, app.router.lifespan_context(app):
        yield client


def digest(body: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"}


async def post(client: httpx.AsyncClient, body: bytes = WAV, **headers: str) -> httpx.Response:
    return await client.post("/score", content=body, headers=RAW | {n.replace("_", "-"): v for n, v in headers.items()})


async def repeat(client: httpx.AsyncClient, body: bytes = WAV) -> httpx.Response:
    return await client.post("/score", content=body, headers=RAW | KEY)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def files(services: Services) -> list[str]:
    return [file.name for file in services.storage.directory.iterdir()]


def jobs_of(services: Services, tenant: str = "open") -> list[str]:
    return [job_id for _, job_id in services.jobs.list_by_created(tenant)]


async def asked(app: FastAPI, headers: dict[str, str], body: bytes = WAV) -> tuple[Answer, int]:
    """An answer, and how often the application asked for more of the body."""
    client = Client(app, body_messages([body]))
    return await client.post("/score", headers), client.asked


# Idempotency.


async def test_a_repeated_request_gets_the_first_answer_byte_for_byte(
    client: httpx.AsyncClient, services: Services
) -> None:
    first, second = await repeat(client), await repeat(client)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert jobs_of(services) == files(services) == [first.json()["id"]]


async def test_the_first_answer_is_repeated_even_when_the_job_has_moved_on(
    client: httpx.AsyncClient, services: Services
) -> None:
    first = await repeat(client)
    services.machine.start(first.json()["id"], max_attempts=3, lease_s=60)
    assert (await repeat(client)).content == first.content


async def test_with_and_without_quotes_it_is_the_same_key(client: httpx.AsyncClient) -> None:
    answers = [await post(client, Idempotency_Key=key) for key in ("abc", '"abc"', "abcd")]
    ids = [answer.json()["id"] for answer in answers]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(("query", "body"), [("", OTHER_WAV), ("?external_id=x", WAV)])
async def test_another_track_or_other_options_under_the_same_key_are_refused(
    client: httpx.AsyncClient, services: Services, query: str, body: bytes
) -> None:
    first = await repeat(client)
    answer = await client.post(f"/score{query}", content=body, headers=RAW | KEY)
    assert code(answer) == (422, "idempotency_key_reused")
    assert jobs_of(services) == files(services) == [first.json()["id"]]


async def test_a_form_and_a_raw_body_of_the_same_track_are_the_same_request(client: httpx.AsyncClient) -> None:
    first = await repeat(client)
    second = await client.post("/score", content=track_form(), headers=FORM | KEY)
    assert second.content == first.content


async def test_a_failed_request_leaves_its_key_for_a_corrected_one(
    client: httpx.AsyncClient, services: Services
) -> None:
    assert code(await repeat(client, b"<html>" + b"x" * 100)) == (415, "unsupported_media_type")
    answer = await repeat(client)
    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers
    assert len(jobs_of(services)) == 1


class Paused(Client):
    """A client that stops after its first message until it is told to go on."""

    def __init__(self, app: FastAPI, body: bytes) -> None:
        super().__init__(app, body_messages([body[:100], body[100:]]))
        self.go_on = asyncio.Event()
        self.pausing = asyncio.Event()

    async def receive(self) -> Message:
        if self.asked == 1:
            self.pausing.set()
            await self.go_on.wait()
        return await super().receive()


async def test_while_the_first_request_works_others_are_told_to_come_back(app: FastAPI, services: Services) -> None:
    first = Paused(app, WAV)
    answering = asyncio.create_task(first.post("/score", RAW | KEY))
    await first.pausing.wait()
    refused, n_asked = await asked(app, RAW | KEY)
    check_problem(409, refused.headers["content-type"], refused.json())
    assert (refused.json()["code"], refused.headers["retry-after"], n_asked) == ("idempotency_in_flight", "1", 0)
    assert "job_id" not in refused.json()
    first.go_on.set()
    assert (await answering).status == 202
    again, _ = await asked(app, RAW | KEY)
    assert (again.status, len(jobs_of(services))) == (202, 1)


async def test_a_client_that_leaves_gives_its_key_back(app: FastAPI, services: Services) -> None:
    await Client(app, body_messages([WAV], end=False)).post("/score", RAW | KEY)
    answer, _ = await asked(app, RAW | KEY)
    assert (answer.status, len(jobs_of(services))) == (202, 1)


async def test_a_hundred_at_once_make_one_job(client: httpx.AsyncClient, services: Services) -> None:
    answers = await asyncio.gather(*(repeat(client) for _ in range(100)))
    accepted = {answer.content for answer in answers if answer.status_code == 202}
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len(accepted) == len(jobs_of(services)) == len(files(services)) == 1


async def test_a_retry_with_a_digest_is_answered_without_its_body(client: httpx.AsyncClient, app: FastAPI) -> None:
    first = await repeat(client)
    big = {"Content-Length": "90000000"}
    answer, n_asked = await asked(app, RAW | KEY | digest(WAV) | big)
    assert (answer.status, n_asked) == (202, 0)
    assert answer.messages[1]["body"] == first.content
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.headers["connection"] == "close"
    answer, n_asked = await asked(app, RAW | KEY | digest(OTHER_WAV) | big)
    assert (answer.json()["code"], n_asked) == ("idempotency_key_reused", 0)


async def test_a_form_with_a_digest_is_answered_without_its_body_when_it_is_the_same_form(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    body = track_form()
    first = await client.post("/score", content=body, headers=FORM | KEY | digest(body))
    answer, n_asked = await asked(app, FORM | KEY | digest(body))
    assert (answer.messages[1]["body"], n_asked) == (first.content, 0)
    other = body.replace(BOUNDARY, b"another")
    headers = {"Content-Type": "multipart/form-data; boundary=another"} | KEY | digest(other)
    answer, n_asked = await asked(app, headers, other)
    assert (answer.messages[1]["body"], n_asked) == (first.content, 2)


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


async def test_another_track_after_a_lost_reply_is_refused(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, JobStateMachine, "create", after=True)
    await repeat(client)
    assert code(await repeat(client, OTHER_WAV)) == (422, "idempotency_key_reused")
    [job_id] = jobs_of(services)
    assert services.storage.path(job_id).read_bytes() == WAV


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


async def test_who_lost_the_claim_makes_no_job(app: FastAPI, services: Services) -> None:
    services.idempotency.lease_s = 0.5
    sleeper = Paused(app, WAV)
    answering = asyncio.create_task(sleeper.post("/score", RAW | KEY))
    await sleeper.pausing.wait()
    time.sleep(0.8)  # the whole process sleeps, and so does the renewal
    heir, _ = await asked(app, RAW | KEY)
    sleeper.go_on.set()
    refused = await answering
    assert (heir.status, refused.status, refused.json()["code"]) == (202, 409, "idempotency_in_flight")
    assert len(jobs_of(services)) == 1


async def test_deleting_a_job_deletes_its_stored_answer(client: httpx.AsyncClient, services: Services) -> None:
    first = (await repeat(client)).json()["id"]
    services.job_service.purge(services.jobs.get(first) or pytest.fail("no job"))
    assert services.redis.keys("apex:idempotency:*") == []
    assert (await repeat(client)).json()["id"] != first


async def test_without_a_key_the_same_request_makes_another_job(client: httpx.AsyncClient) -> None:
    assert (await post(client)).json()["id"] != (await post(client)).json()["id"]


# Digests.


@pytest.mark.parametrize(("headers", "body"), [(RAW, WAV), (FORM, track_form())])
async def test_a_body_is_what_its_digest_says_or_it_is_refused(
    client: httpx.AsyncClient, services: Services, headers: dict[str, str], body: bytes
) -> None:
    wrong = await client.post("/score", content=body, headers=headers | digest(body + b"x"))
    assert code(wrong) == (400, "digest_mismatch")
    assert files(services) == jobs_of(services) == []
    assert (await client.post("/score", content=body, headers=headers | digest(body))).status_code == 202


# Known scores.


VERSION = str(MODEL["version"])


def score(services: Services, job_id: str, version: str = VERSION) -> Job:
    services.worker_info.publish_model(MODEL | {"version": version})
    run = services.machine.start(job_id, max_attempts=3, lease_s=60)
    assert run
    audio = run.audio | {"codec": "pcm_s16le", "duration_s": 3.0}
    services.machine.succeed(run, result=RESULT, model=MODEL | {"version": version}, audio=audio)
    services.storage.delete(job_id)
    return found(services.machine, run)


async def test_a_track_that_was_scored_before_is_answered_at_once(
    client: httpx.AsyncClient, services: Services
) -> None:
    known = score(services, (await post(client)).json()["id"])
    answer = await client.post("/score?external_id=again", content=WAV, headers=RAW)
    job = answer.json()
    assert (answer.status_code, job["status"], job["cached"], job["done"]) == (200, "succeeded", True, True)
    assert answer.headers["location"] == f"/jobs/{job['id']}" != f"/jobs/{known.id}"
    assert (job["result"], job["model"]["version"]) == (RESULT, MODEL["version"])
    assert (job["external_id"], job["audio"]["duration_s"]) == ("again", 3.0)
    assert files(services) == []
    assert (await client.get(answer.headers["location"])).json() == job
    assert job["id"] not in services.queue.rq.job_ids


async def test_a_known_track_is_scored_again_by_another_model(client: httpx.AsyncClient, services: Services) -> None:
    score(services, (await post(client)).json()["id"])
    services.worker_info.publish_model(MODEL | {"version": "apex-2.0.0"})
    assert (await post(client)).status_code == 202


async def test_another_track_is_not_a_known_one(client: httpx.AsyncClient, services: Services) -> None:
    score(services, (await post(client)).json()["id"])
    assert (await post(client, OTHER_WAV)).status_code == 202


async def test_a_known_answer_is_stored_under_its_key_too(client: httpx.AsyncClient, services: Services) -> None:
    score(services, (await post(client)).json()["id"])
    first, second = await repeat(client), await repeat(client)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content


# Deadlines, models, waiting.


async def test_a_deadline_is_that_long_after_acceptance(client: httpx.AsyncClient, services: Services) -> None:
    job = services.jobs.get((await post(client, Cancel_After="10m")).json()["id"])
    assert job
    assert job.deadline == pytest.approx(job.created_at + 600)
    assert (await post(client)).json()["deadline"] is None


async def test_a_model_can_be_asked_for(client: httpx.AsyncClient, services: Services) -> None:
    async def pinned(version: str) -> httpx.Response:
        return await client.post(f"/score?model_version={version}", content=WAV, headers=RAW)

    assert code(await pinned(VERSION)) == (422, "validation_error")
    services.worker_info.publish_model(MODEL)
    refused = await pinned("apex-0.0.0")
    assert refused.json()["errors"] == [{"pointer": "#/model_version", "detail": "The workers run apex-1.0.0."}]
    assert files(services) == jobs_of(services) == []
    assert (await pinned(VERSION)).status_code == 202


async def end_soon(services: Services, **changes: Any) -> None:
    while not (open_ids := UnfinishedJobs(services.redis).ids()):
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


# Limits.


@pytest.fixture
def guarded(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"require_api_keys": True}), redis=redis)


def key_with(redis: Redis, tenant: str = "acme", **limits: int) -> dict[str, str]:
    return {"X-API-Key": KeyStore(redis).create(tenant=tenant, limits=Limits(**limits))[1]}


def check_limited(answer: Answer, policy: str, n_asked: int) -> None:
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


async def test_tenants_share_neither_keys_of_idempotency_nor_known_scores(
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
    assert [value.partition(",")[0] for value in left] == ['"burst";r=1;t=30', '"burst";r=0;t=60']
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
    assert '"bytes";r=0;t=86400' in left
    answer, n_asked = await asked(guarded, headers | {"Content-Length": "100"})
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


# The queue.


@pytest.fixture
def narrow(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"max_queued_audio_s": 100.0}), redis=redis)


async def test_a_full_queue_says_when_there_will_be_room(narrow: FastAPI, redis: Redis, services: Services) -> None:
    for _ in range(4):
        queued(services.machine, estimated_s=60.0)
    answer, n_asked = await asked(narrow, RAW)
    check_problem(503, answer.headers["content-type"], answer.json())
    assert (answer.json()["code"], n_asked) == ("queue_full", 0)
    assert answer.headers["retry-after"] == "30"
    services.queue_status.record_throughput(2.0)
    for name in ("a", "b"):
        live_worker(redis, beat=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), name=f"rq:worker:{name}")
    answer, _ = await asked(narrow, RAW)
    assert answer.headers["retry-after"] == "35"  # 240 s wait, 100 may: 140 s at 2 workers' 2 s a second


async def test_the_queue_is_looked_at_again_when_the_job_is_made(narrow: FastAPI, services: Services) -> None:
    sleepers = [Paused(narrow, WAV) for _ in range(2)]
    answering = [asyncio.create_task(sleeper.post("/score", RAW)) for sleeper in sleepers]
    for sleeper in sleepers:
        await sleeper.pausing.wait()
    queued(services.machine, estimated_s=1.0)
    queued(services.machine, estimated_s=200.0)
    for sleeper in sleepers:
        sleeper.go_on.set()
    answers = await asyncio.gather(*answering)
    assert [(answer.status, answer.json()["code"]) for answer in answers] == [(503, "queue_full")] * 2
    assert files(services) == []


async def test_the_length_of_a_track_is_guessed_for_the_queue(client: httpx.AsyncClient, services: Services) -> None:
    job = services.jobs.get((await post(client, WAV + b"\0" * 176_400)).json()["id"])
    assert job
    assert job.estimated_s == pytest.approx(1.0, abs=0.1)


# Ends that come from outside.


async def test_a_request_cancelled_while_its_job_is_made_is_told_of_the_job(
    app: FastAPI, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = JobStateMachine.create
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(machine: JobStateMachine, job: Job, **limits: Any) -> None:
        loop.call_soon_threadsafe(began.set)
        time.sleep(0.1)
        create(machine, job, **limits)

    monkeypatch.setattr(JobStateMachine, "create", slow)
    answering = asyncio.create_task(Client(app, body_messages([WAV])).post("/score", RAW))
    await began.wait()
    answering.cancel()
    answer = await answering
    assert answer.status == 202
    job = services.jobs.get(answer.json()["id"])
    assert job
    assert job.status is JobState.QUEUED


async def test_a_form_may_carry_every_option(client: httpx.AsyncClient, services: Services) -> None:
    services.worker_info.publish_model(MODEL)
    body = form(part("file", WAV), part("external_id", b"x"), part("model_version", b"apex-1.0.0"))
    assert (await client.post("/score", content=body, headers=FORM)).json()["external_id"] == "x"
