"""What a newer version wrote is read as far as it is known; nothing fails the answer to a track once it is taken."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.batches.store import Batch
from app.api.dependencies import Services
from app.api.jobs.events import JobEventFeed
from app.api.jobs.notifications import JobNotifications
from app.api.submissions.idempotency import IdempotencyKeys
from app.core.callers import Caller, Limits
from app.core.jobs.models import Job
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from tests.app.api.asgi import FORM, RAW, WAV, form, part
from tests.app.api.submissions.requests import KEY, post, score
from tests.app.records import queued, report, running, succeeded
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


def extend(redis: Redis, key_id: str) -> None:
    """A key's record as a newer version would write it."""
    record = json.loads(redis.hget(KEYS.api_keys, key_id) or "")
    record |= {"region": "eu", "limits": record["limits"] | {"streams": 3}, "scopes": [*record["scopes"], "web:hooks"]}
    redis.hset(KEYS.api_keys, key_id, json.dumps(record))


async def test_a_key_with_unknown_fields_works_is_listed_and_is_revoked_with_them(
    client: httpx.AsyncClient, redis: Redis
) -> None:
    key, secret = KeyStore(redis, KEYS).create(tenant="acme", limits=Limits(requests_per_minute=7))
    extend(redis, key.id)
    answer = await client.post("/score", content=WAV, headers=RAW | {"X-API-Key": secret})
    assert answer.status_code == 202
    assert '"burst";q=7' in answer.headers["RateLimit-Policy"]
    assert [each.id for each in KeyStore(redis, KEYS).list_all()] == [key.id]
    KeyStore(redis, KEYS).revoke(key.id)
    assert json.loads(redis.hget(KEYS.api_keys, key.id) or "")["region"] == "eu"
    assert (await client.get("/jobs", headers={"X-API-Key": secret})).status_code == 401


async def test_unknown_fields_of_a_record_and_a_batch_are_not_shown(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    services.batches.create(Batch("bat_1", "open"))
    job = queued(services.machine, batch_id="bat_1")
    for key in (KEYS.record(job.id), KEYS.batch("open", "bat_1")):
        redis.hset(key, mapping={"mood": "calm", "nested": '{"a": 1}'})
    assert "mood" not in (await client.get(f"/jobs/{job.id}")).json()
    assert (await client.get("/batches/bat_1")).json()["counts"]["total"] == 1


async def test_unknown_choices_are_shown_as_the_next_best(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    jobs.report(run, audio={"decoder": "new"}, progress={"stage": "new", "segments_done": 1, "segments_total": 2})
    job = (await client.get(f"/jobs/{run.id}")).json()
    assert (job["audio"]["decoder"], job["progress"]["stage"], job["progress"]["ratio"]) == (None, "embedding", 0.5)


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


def test_unknown_events_are_passed_over(services: Services, jobs: JobStateMachine, redis: Redis) -> None:
    run = running(jobs)
    feed = JobEventFeed(services, run, after="0-0")
    redis.xadd(KEYS.events(run.id), {"event": "job.paused", "data": '{"by": "x"}'})
    redis.xadd(KEYS.events(run.id), {"event": "job.progress", "data": "{}"})
    redis.xadd(KEYS.events(run.id), {"mood": "calm"})
    report(jobs, run, 3)
    frames = feed.read()
    assert len(frames) == 1
    assert b'"segments_done":3' in frames[0]
    assert not feed.finished


async def test_known_scores_that_cannot_be_shown_are_scored_again(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    known = score(services, (await post(client)).json()["id"])
    redis.hset(KEYS.record(known.id), "result", '{"scores": {"clarity": "high"}}')
    assert (await post(client)).status_code == 202


def broken(*_arguments: Any, **_options: Any) -> Any:
    raise RuntimeError("not worth an error")


#: What may fail after a job was made.
LATER: dict[str, tuple[type, str]] = {
    "the estimate of the wait": (ScoreQueue, "n_workers"),
    "the notification of its end": (JobNotifications, "listen"),
    "the answer for a repetition": (IdempotencyKeys, "complete"),
}
SENT: dict[str, Callable[[httpx.AsyncClient], Any]] = {
    "a track": lambda client: client.post("/score", content=WAV, headers=RAW | KEY | {"Prefer": "wait=1"}),
    "a batch": lambda client: client.post(
        "/batches", content=form(part("files", WAV, filename="a")), headers=FORM | KEY | {"Prefer": "wait=1"}
    ),
}


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("later", LATER)
async def test_nothing_fails_the_answer_once_the_job_is_made(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch, later: str, sent: str
) -> None:
    monkeypatch.setattr(*LATER[later], broken)
    answer = await SENT[sent](client)
    assert answer.status_code in (202, 207), answer.text
    assert len([*services.jobs.list_by_created("open")]) == 1


async def test_a_job_that_cannot_be_shown_any_more_is_answered_as_it_was_taken(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer worker may have finished it meanwhile."""

    async def finished(_services: Services, job_id: str, **_options: Any) -> Job:
        run = services.machine.start(job_id, max_attempts=3, lease_s=60)
        assert run
        services.machine.succeed(run, result={"scores": {"clarity": "high"}})
        return services.job_service.get(Caller(), job_id)

    monkeypatch.setattr("app.api.submissions.single.wait_until_done", finished)
    answer = await post(client, prefer="wait=5")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


async def test_a_job_that_cannot_be_shown_is_left_out_of_lists(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    odd, good = succeeded(services.machine), succeeded(services.machine)
    redis.hset(KEYS.record(odd.id), "result", '{"scores": {"clarity": "high"}}')
    assert [job["id"] for job in (await client.get("/jobs")).json()["items"]] == [good.id]
    assert (await client.get(f"/jobs/{odd.id}")).json()["code"] == "internal_error"
