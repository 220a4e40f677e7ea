"""The ledger under races, lost answers and versions of the record side by side."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.core.jobs.store import AttemptsExhausted, Job, JobState, JobStore, RunSignal, new_job_id
from tests.worker.fakes import accepted, outcome, score_track, stored

RACERS = 16


def queued(store: JobStore) -> Job:
    job = Job(id=new_job_id(), storage_key="key")
    store.create(job)
    return job


def begun(store: JobStore, worker: str = "") -> Job:
    run = store.start(queued(store).id, max_attempts=3, lease_s=60, worker=worker)
    assert run
    return run


def race(*steps: Any) -> list[Any]:
    with ThreadPoolExecutor(len(steps)) as pool:
        return [future.result() for future in [pool.submit(step) for step in steps]]


def test_of_many_workers_one_begins_a_job(store: JobStore) -> None:
    for _ in range(20):
        job = queued(store)
        runs = race(*[partial(store.start, job.id, max_attempts=3, lease_s=60, worker=str(n)) for n in range(RACERS)])
        assert len([run for run in runs if run]) == 1
        assert outcome(store, job).attempt == 1


def test_of_many_ends_one_holds(store: JobStore) -> None:
    for _ in range(20):
        run = begun(store)
        ends = race(
            *[partial(store.succeed, run, result={"scores": {"n": n}}) for n in range(RACERS)],
            partial(store.fail, run, error={"code": "internal_error"}),
            partial(store.stop, run, reason=RunSignal.BY_CLIENT),
        )
        assert ends.count(True) == 1


def test_a_run_that_was_fenced_off_can_do_nothing(store: JobStore) -> None:
    old = store.start(queued(store).id, max_attempts=3, lease_s=-1)
    assert old
    new = store.start(old.id, max_attempts=3, lease_s=60)
    assert not store.succeed(old, result={})
    assert not store.fail(old, error={})
    assert not store.renew(old, lease_s=60)
    assert not store.requeue(old)
    assert not store.stop(old, reason=RunSignal.BY_CLIENT)
    assert store.report(old, progress={}) is RunSignal.LOST
    assert outcome(store, old) == new


def test_a_number_is_not_given_twice_even_when_a_run_was_handed_back(store: JobStore) -> None:
    first = begun(store)
    assert store.requeue(first, counted=False)
    second = store.start(first.id, max_attempts=3, lease_s=60)
    assert second
    assert (second.attempt, second.attempts_used) == (2, 1)
    assert not store.succeed(first, result={})


def test_runs_handed_back_leave_all_attempts(store: JobStore) -> None:
    job = queued(store)
    for _ in range(7):
        run = store.start(job.id, max_attempts=1, lease_s=60)
        assert run
        store.requeue(run, counted=False)
    run = store.start(job.id, max_attempts=1, lease_s=60)
    assert run
    store.requeue(run)
    with pytest.raises(AttemptsExhausted):
        store.start(job.id, max_attempts=1, lease_s=60)


def test_a_start_whose_answer_was_lost_is_given_again_to_its_worker(store: JobStore) -> None:
    run = begun(store, worker="mine")
    assert store.start(run.id, max_attempts=3, lease_s=60, worker="mine") == run
    assert store.start(run.id, max_attempts=3, lease_s=60, worker="another") is None


def test_an_end_whose_answer_was_lost_is_confirmed(store: JobStore) -> None:
    run = begun(store)
    assert store.succeed(run, result={"scores": {"clarity": 1.0}})
    before = outcome(store, run)
    assert store.succeed(run, result={"scores": {"clarity": 1.0}})
    assert not store.succeed(run, result={"scores": {"clarity": 2.0}})
    assert outcome(store, run) == before


#: What the first version knew of a queued job, less all that has a default.
OLDEST: dict[str, Any] = {"storage_key": "", "tenant": "open", "status": "queued", "attempt": 0, "created_at": 1.0}


def write(redis: Redis, store: JobStore, data_dir: Path, **fields: Any) -> Job:
    """A record of another version, by hand, with its audio and its place among the open jobs."""
    job = accepted(store, data_dir)
    redis.delete(f"apex:job:{job.id}")
    values = {**OLDEST, "id": job.id, "storage_key": job.id, **fields}
    redis.hset(f"apex:job:{job.id}", mapping={name: json.dumps(value) for name, value in values.items()})
    return job


def test_a_record_of_an_older_version_is_run_to_its_end(store: JobStore, redis: Redis, data_dir: Path) -> None:
    job = write(redis, store, data_dir)
    score_track(store, data_dir)(job.id)
    assert outcome(store, job).status is JobState.SUCCEEDED
    assert (stored(data_dir), store.unfinished_ids()) == ([], [])


def test_a_record_of_an_older_version_can_be_given_back_and_canceled(
    store: JobStore, redis: Redis, data_dir: Path
) -> None:
    run = store.start(write(redis, store, data_dir).id, max_attempts=3, lease_s=60)
    assert run
    store.cancel(run)
    assert store.report(run, progress={}) is RunSignal.BY_CLIENT
    assert store.requeue(run)
    store.cancel(run)
    assert outcome(store, run).status is JobState.CANCELED


def test_fields_of_a_newer_version_are_ignored_and_kept(store: JobStore, redis: Redis, data_dir: Path) -> None:
    job = write(redis, store, data_dir, version=99, mood="calm", deadline=None, progress={"stage": "queued", "new": 1})
    score_track(store, data_dir)(job.id)
    assert outcome(store, job).status is JobState.SUCCEEDED
    assert redis.hget(f"apex:job:{job.id}", "mood") == b'"calm"'
    assert redis.hget(f"apex:job:{job.id}", "version") == b"99"
