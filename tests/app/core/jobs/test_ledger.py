"""The ledger under races, lost answers and versions of the record side by side."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.core.jobs.models import AttemptsExhausted, Job, JobState, RunSignal, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from tests.conftest import KEYS, state_machine
from tests.worker.fakes import accepted, outcome, score_track, stored

RACERS = 16


def queued(machine: JobStateMachine) -> Job:
    job = Job(id=new_job_id(), storage_key="key")
    machine.create(job)
    return job


def begun(machine: JobStateMachine, worker: str = "") -> Job:
    run = machine.start(queued(machine).id, max_attempts=3, lease_s=60, worker=worker)
    assert run
    return run


def race(*steps: Any) -> list[Any]:
    with ThreadPoolExecutor(len(steps)) as pool:
        return [future.result() for future in [pool.submit(step) for step in steps]]


def test_of_many_workers_one_begins_a_job(machine: JobStateMachine) -> None:
    for _ in range(20):
        job = queued(machine)
        runs = race(*[partial(machine.start, job.id, max_attempts=3, lease_s=60, worker=str(n)) for n in range(RACERS)])
        assert len([run for run in runs if run]) == 1
        assert outcome(machine, job).attempt == 1


def test_of_many_ends_one_holds(machine: JobStateMachine) -> None:
    for _ in range(20):
        run = begun(machine)
        ends = race(
            *[partial(machine.succeed, run, result={"scores": {"n": n}}) for n in range(RACERS)],
            partial(machine.fail, run, error={"code": "internal_error"}),
            partial(machine.stop, run, reason=RunSignal.BY_CLIENT),
        )
        assert ends.count(True) == 1


def test_a_run_that_was_fenced_off_can_do_nothing(machine: JobStateMachine) -> None:
    old = machine.start(queued(machine).id, max_attempts=3, lease_s=-1)
    assert old
    new = machine.start(old.id, max_attempts=3, lease_s=60)
    assert not machine.succeed(old, result={})
    assert not machine.fail(old, error={})
    assert not machine.renew(old, lease_s=60)
    assert not machine.requeue(old)
    assert not machine.stop(old, reason=RunSignal.BY_CLIENT)
    assert machine.report(old, progress={}) is RunSignal.LOST
    assert outcome(machine, old) == new


def test_a_number_is_not_given_twice_even_when_a_run_was_handed_back(machine: JobStateMachine) -> None:
    first = begun(machine)
    assert machine.requeue(first, counted=False)
    second = machine.start(first.id, max_attempts=3, lease_s=60)
    assert second
    assert (second.attempt, second.attempts_used) == (2, 1)
    assert not machine.succeed(first, result={})


def test_runs_handed_back_leave_all_attempts(machine: JobStateMachine) -> None:
    job = queued(machine)
    for _ in range(7):
        run = machine.start(job.id, max_attempts=1, lease_s=60)
        assert run
        machine.requeue(run, counted=False)
    run = machine.start(job.id, max_attempts=1, lease_s=60)
    assert run
    machine.requeue(run)
    with pytest.raises(AttemptsExhausted):
        machine.start(job.id, max_attempts=1, lease_s=60)


def test_a_start_whose_answer_was_lost_is_given_again_to_its_worker(machine: JobStateMachine) -> None:
    run = begun(machine, worker="mine")
    assert machine.start(run.id, max_attempts=3, lease_s=60, worker="mine") == run
    assert machine.start(run.id, max_attempts=3, lease_s=60, worker="another") is None


def test_a_run_that_loses_its_job_before_it_hears_of_its_start_keeps_its_own_number(
    machine: JobStateMachine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker frozen right after its start was given the number of the run that had replaced it."""
    job, start = queued(machine), machine.scripts["start"]

    def overtaken(*args: Any, **arguments: Any) -> Any:
        answer = start(*args, **arguments)
        redis.hset(KEYS.record(job.id), "lease_until", "0")
        assert state_machine(redis).start(job.id, max_attempts=3, lease_s=60)
        return answer

    monkeypatch.setitem(machine.scripts, "start", overtaken)
    run = machine.start(job.id, max_attempts=3, lease_s=60)
    assert run
    assert run.attempt == 1
    assert not machine.succeed(run, result={})


def test_an_end_whose_answer_was_lost_is_confirmed(machine: JobStateMachine) -> None:
    run = begun(machine)
    assert machine.succeed(run, result={"scores": {"clarity": 1.0}})
    before = outcome(machine, run)
    assert machine.succeed(run, result={"scores": {"clarity": 1.0}})
    assert not machine.succeed(run, result={"scores": {"clarity": 2.0}})
    assert outcome(machine, run) == before


#: What the first version knew of a queued job, less all that has a default.
OLDEST: dict[str, Any] = {"storage_key": "", "tenant": "open", "status": "queued", "attempt": 0, "created_at": 1.0}


def write(redis: Redis, machine: JobStateMachine, data_dir: Path, **fields: Any) -> Job:
    """A record of another version, by hand, with its audio and its place among the open jobs."""
    job = accepted(machine, data_dir)
    redis.delete(f"apex:job:{job.id}")
    values = {**OLDEST, "id": job.id, "storage_key": job.id, **fields}
    redis.hset(f"apex:job:{job.id}", mapping={name: json.dumps(value) for name, value in values.items()})
    return job


def test_a_record_of_an_older_version_is_run_to_its_end(machine: JobStateMachine, redis: Redis, data_dir: Path) -> None:
    job = write(redis, machine, data_dir)
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED
    assert (stored(data_dir), UnfinishedJobs(machine.redis, KEYS).ids()) == ([], [])


def test_a_record_of_an_older_version_can_be_given_back_and_canceled(
    machine: JobStateMachine, redis: Redis, data_dir: Path
) -> None:
    run = machine.start(write(redis, machine, data_dir).id, max_attempts=3, lease_s=60)
    assert run
    machine.cancel(run)
    assert machine.report(run, progress={}) is RunSignal.BY_CLIENT
    assert machine.requeue(run)
    machine.cancel(run)
    assert outcome(machine, run).status is JobState.CANCELED


def test_fields_of_a_newer_version_are_ignored_and_kept(machine: JobStateMachine, redis: Redis, data_dir: Path) -> None:
    job = write(
        redis, machine, data_dir, version=99, mood="calm", deadline=None, progress={"stage": "queued", "new": 1}
    )
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED
    assert redis.hget(f"apex:job:{job.id}", "mood") == b'"calm"'
    assert redis.hget(f"apex:job:{job.id}", "version") == b"99"
