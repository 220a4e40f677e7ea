"""Test jobs come to their end, whatever becomes of the process that took them."""

import pytest
from redis import Redis

from app.api.test_mode import simulator
from app.api.test_mode.simulator import JobSimulator
from app.core.jobs.models import Job, JobState
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.keys import indexes
from app.core.settings import ApiSettings
from app.core.storage.opening import open_storage
from app.main import create_app
from tests.app.api.asgi import RAW, WAV
from tests.app.api.live import eventually, live
from tests.app.records import found, key_of, queued
from tests.conftest import KEYS, state_machine
from worker.reconciler import Reconciler

OWNER = "acme/test"


@pytest.fixture
def slow(machine: JobStateMachine) -> Job:
    return queued(machine, tenant=OWNER, external_id="test_slow_20s", audio={"sha256": "x"}, estimated_s=100.0)


def started_before(redis: Redis, job: Job, *, ago_s: float) -> None:
    """Have the run of a job be so old."""
    started_at = float(redis.hget(KEYS.record(job.id), "started_at") or b"0")
    redis.hset(KEYS.record(job.id), "started_at", started_at - ago_s)


def test_a_job_that_another_process_began_is_ended_by_this_one(
    redis: Redis, machine: JobStateMachine, slow: Job
) -> None:
    assert JobSimulator(machine).run_due() <= simulator.PROGRESS_S
    started_before(redis, slow, ago_s=10)
    JobSimulator(state_machine(redis)).run_due()
    assert found(machine, slow).progress == {"stage": "embedding", "segments_done": 2, "segments_total": 4}
    started_before(redis, slow, ago_s=10)
    JobSimulator(state_machine(redis)).run_due()
    job = found(machine, slow)
    assert (job.status, job.attempt) == (JobState.SUCCEEDED, 1)
    assert redis.zcard(indexes(KEYS, livemode=False).unfinished) == 0


def test_two_runners_that_take_the_same_step_take_it_once(redis: Redis, machine: JobStateMachine, slow: Job) -> None:
    runners = [JobSimulator(machine), JobSimulator(state_machine(redis))]
    for ago_s in (0, 20):
        for each in runners:
            each.run_due()
        started_before(redis, slow, ago_s=ago_s)
    job = found(machine, slow)
    ends = [event.name for event in machine.store.events(job.id) if event.name != "job.progress"]
    assert (job.attempt, ends) == (1, ["job.succeeded"] * (job.status is JobState.SUCCEEDED))


def test_the_reconciler_leaves_test_jobs_alone(
    machine: JobStateMachine, slow: Job, settings: ApiSettings, redis: Redis
) -> None:
    storage = open_storage(settings, scratch_bytes=lambda: 0)
    reconciler = Reconciler(machine, storage, max_attempts=3)
    JobSimulator(machine).run_due()
    redis.hset(KEYS.record(slow.id), "lease_until", "0")
    assert [reconciler.run() for _ in range(3)] == [[], [], []]
    assert machine.queue.rq.job_ids == []
    assert found(machine, slow).status is JobState.RUNNING


def test_an_overdue_job_is_canceled(machine: JobStateMachine, redis: Redis) -> None:
    job = queued(machine, tenant=OWNER, external_id="test_slow_20s", audio={"sha256": "x"})
    redis.hset(KEYS.record(job.id), "deadline", "1")
    JobSimulator(machine).run_due()
    assert found(machine, job).status_reason == "deadline_exceeded"


def test_an_id_without_a_record_is_forgotten(machine: JobStateMachine, redis: Redis, slow: Job) -> None:
    redis.delete(KEYS.record(slow.id))
    JobSimulator(machine).run_due()
    assert redis.zcard(indexes(KEYS, livemode=False).unfinished) == 0


def test_a_deleted_job_leaves_nothing_to_run(machine: JobStateMachine, redis: Redis, slow: Job) -> None:
    JobSimulator(machine).run_due()
    machine.purge(slow)
    JobSimulator(machine).run_due()
    assert machine.store.get(slow.id) is None
    assert redis.zcard(indexes(KEYS, livemode=False).unfinished) == 0


def test_a_running_front_end_ends_test_jobs_by_itself(settings: ApiSettings, redis: Redis) -> None:
    """Also one that was made before the front end was started."""
    machine = state_machine(redis)
    before = queued(machine, tenant=OWNER, audio={"sha256": "x"})
    with live(create_app(settings)) as serving, serving.client(headers=key_of(redis, "acme", livemode=False)) as client:
        job = client.post("/score/raw", content=WAV, headers={**RAW, "Prefer": "wait=30"}).json()
        assert job["status"] == "succeeded"
        eventually(lambda: found(machine, before).status.done)
