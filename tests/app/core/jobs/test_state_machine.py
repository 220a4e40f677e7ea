"""The job state machine: which state may follow which, and who wins."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from app.core.jobs.backlog import BacklogLimits
from app.core.jobs.models import (
    AttemptsExhausted,
    Job,
    JobExists,
    JobState,
    QueueFull,
    RunSignal,
    TooManyJobsInFlight,
    new_job_id,
)
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from tests.app.records import is_orphaned
from tests.conftest import KEYS

EXPIRED = -1.0


def queued(machine: JobStateMachine, **values: Any) -> Job:
    job_id = new_job_id()
    return machine.create(Job(id=job_id, storage_key=job_id, **values))[0]


def started(machine: JobStateMachine, job: Job, *, lease_s: float = 60) -> Job:
    run = machine.start(job.id, max_attempts=3, lease_s=lease_s)
    assert run
    return run


def test_an_id_is_created_only_once(machine: JobStateMachine) -> None:
    job = queued(machine)
    with pytest.raises(JobExists):
        machine.create(job)


def test_a_job_runs_and_succeeds(machine: JobStateMachine) -> None:
    run = started(machine, queued(machine))
    assert (run.status, run.attempt) == (JobState.RUNNING, 1)
    assert machine.report(run, progress={"stage": "embedding", "segments_done": 1, "segments_total": 2}) is RunSignal.OK
    assert machine.succeed(run, result={"scores": {"clarity": 3.0}})
    over = machine.store.get(run.id)
    assert over
    assert over.status is JobState.SUCCEEDED
    assert over.finished_at
    assert over.result == {"scores": {"clarity": 3.0}}
    assert UnfinishedJobs(machine.redis, KEYS).ids() == []


def test_a_terminal_state_never_changes(machine: JobStateMachine) -> None:
    run = started(machine, queued(machine))
    machine.fail(run, error={"code": "audio_silent"})
    before = machine.store.get(run.id)
    assert not machine.succeed(run, result={})
    assert machine.report(run, progress={}) is RunSignal.LOST
    assert not machine.fail(run, error={"code": "other"})
    assert not machine.requeue(run)
    assert not machine.renew(run, lease_s=60)
    assert machine.start(run.id, max_attempts=9, lease_s=60) is None
    assert machine.store.get(run.id) == before


def test_a_job_in_a_live_workers_hands_is_not_started_again(machine: JobStateMachine) -> None:
    job = queued(machine)
    started(machine, job)
    assert machine.start(job.id, max_attempts=3, lease_s=60) is None


def test_a_run_that_lost_its_lease_loses_every_write(machine: JobStateMachine) -> None:
    late = started(machine, queued(machine), lease_s=EXPIRED)
    current = started(machine, late)
    assert current.attempt == 2
    assert not machine.succeed(late, result={"from": "the late run"})
    assert not machine.renew(late, lease_s=60)
    assert machine.succeed(current, result={"from": "the current run"})


def test_a_renewed_lease_keeps_the_job(machine: JobStateMachine) -> None:
    run = started(machine, queued(machine), lease_s=EXPIRED)
    assert is_orphaned(machine, run)
    assert machine.renew(run, lease_s=60)
    held = machine.store.get(run.id)
    assert held
    assert not is_orphaned(machine, held)
    assert machine.start(run.id, max_attempts=3, lease_s=60) is None


def test_a_released_job_can_be_started_at_once(machine: JobStateMachine) -> None:
    run = started(machine, queued(machine))
    assert machine.requeue(run)
    assert started(machine, run).attempt == 2


def test_attempts_are_bounded(machine: JobStateMachine) -> None:
    job = queued(machine)
    for _ in range(3):
        started(machine, job, lease_s=EXPIRED)
    with pytest.raises(AttemptsExhausted):
        machine.start(job.id, max_attempts=3, lease_s=60)


def test_of_many_simultaneous_starts_one_wins(machine: JobStateMachine) -> None:
    job = queued(machine)
    wins: list[Job] = []

    def try_start() -> None:
        if run := machine.start(job.id, max_attempts=100, lease_s=60):
            wins.append(run)

    threads = [threading.Thread(target=try_start) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1


def test_open_jobs_are_kept_and_finished_ones_expire(machine: JobStateMachine, redis: Redis) -> None:
    waiting, over = queued(machine), started(machine, queued(machine))
    machine.succeed(over, result={})
    assert UnfinishedJobs(machine.redis, KEYS).ids() == [waiting.id]
    assert redis.ttl(f"apex:job:{waiting.id}") == -1
    assert 0 < redis.ttl(f"apex:job:{over.id}") <= 60


def test_a_queued_job_is_canceled_at_once(machine: JobStateMachine) -> None:
    job = queued(machine)
    machine.cancel(job)
    over = machine.store.get(job.id)
    assert over
    assert (over.status, over.status_reason) == (JobState.CANCELED, "by_client")
    assert machine.start(job.id, max_attempts=3, lease_s=60) is None


def test_a_running_job_is_asked_to_stop(machine: JobStateMachine) -> None:
    run = started(machine, queued(machine))
    machine.cancel(run)
    running = machine.store.get(run.id)
    assert running
    assert running.status is JobState.RUNNING
    assert running.cancel_requested_at
    assert machine.report(run, progress={}) is RunSignal.BY_CLIENT
    assert machine.stop(run, reason=RunSignal.BY_CLIENT)


def test_canceling_what_is_over_does_nothing(machine: JobStateMachine) -> None:
    run = started(machine, queued(machine))
    machine.succeed(run, result={})
    before = machine.store.get(run.id)
    machine.cancel(run)
    assert machine.store.get(run.id) == before


def test_a_purged_job_leaves_only_a_tombstone_of_its_tenant(machine: JobStateMachine, redis: Redis) -> None:
    run = started(machine, queued(machine, tenant="a"))
    machine.purge(run)
    assert machine.store.get(run.id) is None
    assert machine.report(run, progress={}) is RunSignal.LOST
    assert machine.store.expired_at(run.id, tenant="a")
    assert machine.store.expired_at(run.id, tenant="b") is None
    assert [*machine.store.list_by_created("a")] == []
    assert UnfinishedJobs(machine.redis, KEYS).ids() == []
    assert redis.keys(f"*{run.id}*") == [f"apex:gone:{run.id}".encode()]


def test_everything_that_a_finished_job_owns_expires_together(machine: JobStateMachine, redis: Redis) -> None:
    run = started(machine, queued(machine, audio={"sha256": "5f"}))
    machine.report(run, progress={})
    machine.succeed(run, model={"version": "v"}, result={})
    owned = [f"apex:job:{run.id}", f"apex:events:{run.id}", "apex:scored:open:5f:v"]
    assert {redis.ttl(key) for key in owned} <= {59, 60}
    assert redis.ttl(f"apex:gone:{run.id}") > 60


def test_open_jobs_of_a_tenant_are_bounded(machine: JobStateMachine) -> None:
    first = queued(machine, tenant="a")
    machine.create(Job(id="job_2", storage_key="2", tenant="a"), max_in_flight=2)
    with pytest.raises(TooManyJobsInFlight):
        machine.create(Job(id="job_3", storage_key="3", tenant="a"), max_in_flight=2)
    machine.create(Job(id="job_4", storage_key="4", tenant="b"), max_in_flight=1)
    machine.cancel(first)
    machine.create(Job(id="job_3", storage_key="3", tenant="a"), max_in_flight=2)


def test_a_job_can_be_created_finished(machine: JobStateMachine) -> None:
    job = queued(machine, status=JobState.SUCCEEDED, cached=True, result={"scores": {}}, finished_at=1.0)
    assert machine.store.get(job.id) == job
    assert UnfinishedJobs(machine.redis, KEYS).ids() == []
    assert machine.start(job.id, max_attempts=3, lease_s=60) is None
    assert 0 < machine.redis.ttl(f"apex:job:{job.id}") <= 60


def test_each_change_wakes_who_listens(machine: JobStateMachine, redis: Redis) -> None:
    run = started(machine, queued(machine))
    with redis.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(KEYS.updates_channel(run.id))
        machine.report(run, progress={})
        machine.fail(run, error={"code": "audio_silent"})
        messages = [message for _ in range(20) if (message := listener.get_message(timeout=0.1))]
    assert [message["data"] for message in messages] == [b"job.progress", b"job.failed"]


def test_a_refused_job_leaves_nothing(machine: JobStateMachine, redis: Redis) -> None:
    queued(machine, tenant="a")
    before = sorted(redis.keys())
    for limits in ({"max_in_flight": 1}, {"backlog": BacklogLimits(0.0)}):
        with pytest.raises((TooManyJobsInFlight, QueueFull)):
            machine.create(Job(id="job_2", storage_key="2", tenant="a"), **limits)
    assert sorted(redis.keys()) == before
    assert "job_2" not in machine.queue.rq.job_ids


def test_a_key_of_the_wrong_type_is_set_aside_before_a_step(machine: JobStateMachine, redis: Redis) -> None:
    redis.set(machine.queue.rq.key, "not a list")
    job = queued(machine)
    assert machine.queue.rq.job_ids == [job.id]
    assert redis.get(f"{machine.queue.rq.key}:set_aside") == b"not a list"


@pytest.mark.parametrize("end", [JobStateMachine.cancel, JobStateMachine.purge])
def test_what_rq_keeps_of_a_job_goes_away_after_its_end_though_the_list_was_lost(
    machine: JobStateMachine, redis: Redis, end: Callable[[JobStateMachine, Job], None]
) -> None:
    job = queued(machine)
    _, rq_queue, rq_job = machine.queue.keys(job.id)
    assert redis.ttl(rq_job) == -1
    redis.delete(rq_queue)
    end(machine, job)
    assert redis.ttl(rq_job) > 0


def test_a_canceled_job_leaves_the_queue_unless_a_worker_has_taken_it(machine: JobStateMachine, redis: Redis) -> None:
    taken, waiting = queued(machine), queued(machine)
    assert redis.lpop(machine.queue.rq.key)
    for job in (taken, waiting):
        machine.cancel(job)
    assert machine.queue.rq.job_ids == []
    assert redis.keys("rq:job:*") == [f"rq:job:{taken.id}".encode()]
