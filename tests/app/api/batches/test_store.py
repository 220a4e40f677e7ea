"""Batches in Redis: which jobs can join, in which order, and how long a batch is kept."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from redis import Redis

from app.api.batches.store import Batch, BatchStore, new_batch_id
from app.core.jobs.models import (
    MAX_BATCH_ITEMS,
    BatchFull,
    Job,
    JobExists,
    JobState,
    RunSignal,
    UnknownBatch,
    new_job_id,
)
from app.core.jobs.state_machine import JobStateMachine
from tests.conftest import KEYS

TTL_S = 60  # that of the `store` fixture


@pytest.fixture
def batches(redis: Redis, machine: JobStateMachine) -> BatchStore:
    return BatchStore(redis, KEYS, result_ttl_s=TTL_S)


@pytest.fixture
def batch(batches: BatchStore) -> Batch:
    return batches.create(Batch(new_batch_id(), "acme", "album-17", {"genre": "folk"}))


def joined(machine: JobStateMachine, batch: Batch, status: JobState = JobState.QUEUED) -> Job:
    job = Job(id=new_job_id(), storage_key="x", tenant=batch.tenant, batch_id=batch.id, status=status)
    machine.create(job)
    return job


def started(machine: JobStateMachine, job: Job) -> Job:
    run = machine.start(job.id, max_attempts=3, lease_s=60)
    assert run
    return run


def key_of(batch: Batch) -> str:
    return KEYS.batch(batch.tenant, batch.id)


def ttl_s(redis: Redis, batch: Batch) -> tuple[int, int]:
    """What is left to the record and to its items; -1 for no end."""
    return redis.ttl(key_of(batch)), redis.ttl(f"{key_of(batch)}:items")


def test_a_batch_is_read_as_it_was_written(batches: BatchStore, batch: Batch) -> None:
    assert batches.get("acme", batch.id) == batch


def test_another_tenants_batch_is_unknown(batches: BatchStore, machine: JobStateMachine, batch: Batch) -> None:
    assert batches.get("other", batch.id) is None
    assert batches.get("acme", "bat_unknown") is None
    for stranger in (replace(batch, tenant="other"), replace(batch, id="bat_unknown")):
        with pytest.raises(UnknownBatch):
            joined(machine, stranger)
    assert batches.items(batch) == []


def test_a_record_of_a_later_version_can_be_read(redis: Redis, batches: BatchStore, batch: Batch) -> None:
    redis.hset(key_of(batch), "from_the_future", "1")
    assert batches.get("acme", batch.id) == batch


def test_items_keep_the_order_in_which_they_came(batches: BatchStore, machine: JobStateMachine, batch: Batch) -> None:
    first = joined(machine, batch)
    batches.reject(batch, {"code": "unsupported_media_type"})
    second = joined(machine, batch)
    assert batches.items(batch) == [first.id, {"code": "unsupported_media_type"}, second.id]


STATES = ["queued", "running", "succeeded", "failed", "canceled", "expired", "rejected"]


def one_of_each(batches: BatchStore, machine: JobStateMachine, batch: Batch) -> list[Job]:
    """A job in every state of STATES, and a rejected item."""
    jobs = [joined(machine, batch) for _ in range(6)]
    batches.reject(batch, {"code": "unsupported_media_type"})
    started(machine, jobs[1])
    machine.succeed(started(machine, jobs[2]), result={})
    machine.fail(started(machine, jobs[3]), error={})
    machine.cancel(jobs[4])
    machine.purge(jobs[5])
    return jobs


def test_counts_are_what_the_jobs_say(batches: BatchStore, machine: JobStateMachine, batch: Batch) -> None:
    jobs = one_of_each(batches, machine, batch)
    joined(machine, batch, JobState.SUCCEEDED)
    status = batches.status(batch)
    assert status.counts == {**dict.fromkeys(STATES, 1), "succeeded": 2, "total": 8}
    assert (status.last_open, status.done) == (jobs[0].id, False)


def test_whatever_happens_the_counts_are_those_of_the_records(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch
) -> None:
    chance, jobs, runs = random.Random(7), list[Job](), list[Job]()

    def begin() -> None:
        waiting = [job for job in machine.store.get_many(job.id for job in jobs) if job and job.status == "queued"]
        if waiting and (run := machine.start(chance.choice(waiting).id, max_attempts=99, lease_s=60)):
            runs.append(run)

    ends: list[Callable[[Job], object]] = [machine.succeed, partial(machine.fail, error={}), machine.requeue]

    def finish() -> None:
        if runs:
            chance.choice(ends)(runs.pop())

    for _ in range(300):
        match chance.randrange(7):
            case 0 | 1:
                jobs.append(joined(machine, batch))
            case 2:
                batches.reject(batch, {})
            case 3:
                begin()
            case 4:
                finish()
            case 5 if jobs:
                machine.cancel(chance.choice(jobs))
            case 6 if jobs:
                machine.purge(jobs.pop(chance.randrange(len(jobs))))
        status = batches.status(batch)
        redis.delete(f"{key_of(batch)}:states")
        assert status == batches.status(batch)


def test_a_job_that_has_expired_is_counted_as_such(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch
) -> None:
    over, _ = joined(machine, batch, JobState.SUCCEEDED), joined(machine, batch)
    redis.zincrby(f"{key_of(batch)}:states", -TTL_S - 1, over.id)
    assert batches.status(batch).counts["expired"] == 1
    assert batches.status(batch).counts["succeeded"] == 0


@pytest.mark.parametrize("lost", [["states"], ["states", "open"]])
def test_a_batch_of_an_older_version_is_counted_by_its_records(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch, lost: list[str]
) -> None:
    one_of_each(batches, machine, batch)
    before = batches.status(batch)
    redis.delete(*(f"{key_of(batch)}:{name}" for name in lost))
    redis.hdel(key_of(batch), "rejected", "deleted")
    assert batches.status(batch) == before
    assert redis.ttl(f"{key_of(batch)}:states") == -1
    assert redis.exists(f"{key_of(batch)}:open")


@pytest.mark.parametrize("name", ["states", "open", "items"])
def test_a_key_of_another_type_stops_neither_jobs_nor_readers(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch, name: str
) -> None:
    job = joined(machine, batch)
    redis.set(f"{key_of(batch)}:{name}", "text")
    assert batches.status(batch).counts["queued"] == (0 if name == "items" else 1)
    if name == "states":
        redis.set(f"{key_of(batch)}:{name}", "text")
    machine.succeed(started(machine, job), result={})
    assert batches.status(batch).counts["succeeded"] == (0 if name == "items" else 1)


def test_a_job_that_an_older_worker_ends_is_counted(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch
) -> None:
    """It does not know that states are kept."""
    run = started(machine, joined(machine, batch))
    as_before = redis.dump(f"{key_of(batch)}:states")
    assert isinstance(as_before, bytes)
    machine.succeed(run, result={})
    redis.restore(f"{key_of(batch)}:states", 0, as_before, replace=True)
    assert batches.status(batch).counts["succeeded"] == 1
    assert batches.status(batch).done


def test_reading_a_finished_batch_of_an_older_version_does_not_keep_it_longer(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch
) -> None:
    machine.cancel(joined(machine, batch))
    redis.delete(f"{key_of(batch)}:states")
    redis.expire(key_of(batch), 5)
    assert batches.status(batch).counts["canceled"] == 1
    assert redis.ttl(key_of(batch)) <= 5
    assert 0 < redis.ttl(f"{key_of(batch)}:states") <= TTL_S


def test_an_expired_batch_is_not_brought_back_by_counting(redis: Redis, batches: BatchStore, batch: Batch) -> None:
    redis.delete(key_of(batch))
    assert batches.status(batch).counts["total"] == 0
    assert redis.keys("apex:batch:*") == []


def commands(redis: Redis) -> int:
    """How many commands Redis has carried out, those of scripts among them."""
    return sum(stats["calls"] for stats in redis.info("commandstats").values())


def test_a_batch_of_any_size_is_counted_at_the_same_cost(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch
) -> None:
    costs = []
    for n in (1, 300):
        for _ in range(n):
            joined(machine, batch)
        batches.status(batch)
        before = commands(redis)
        assert batches.status(batch).counts["total"] >= n
        costs.append(commands(redis) - before)
    assert costs[0] == costs[1]


def test_a_batch_without_jobs_expires_like_a_finished_one(redis: Redis, batches: BatchStore, batch: Batch) -> None:
    assert 0 < redis.ttl(key_of(batch)) <= TTL_S
    batches.reject(batch, {"code": "unsupported_media_type"})
    assert all(0 < left <= TTL_S for left in ttl_s(redis, batch))


ENDS = {
    "succeeded": lambda machine, job: machine.succeed(started(machine, job), result={}),
    "failed": lambda machine, job: machine.fail(started(machine, job), error={}),
    "canceled while it waits": lambda machine, job: machine.cancel(job),
    "canceled while it runs": lambda machine, job: machine.stop(started(machine, job), reason=RunSignal.BY_CLIENT),
    "purged": lambda machine, job: machine.purge(job),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_batch_has_no_end_before_its_last_job_and_ends_with_it(
    redis: Redis, batches: BatchStore, machine: JobStateMachine, batch: Batch, end: str
) -> None:
    first, last = joined(machine, batch), joined(machine, batch)
    batches.reject(batch, {"code": "queue_full"})
    assert ttl_s(redis, batch) == (-1, -1)
    machine.succeed(started(machine, first), result={})
    assert ttl_s(redis, batch) == (-1, -1)
    ENDS[end](machine, last)
    assert all(TTL_S - 2 <= left <= TTL_S for left in ttl_s(redis, batch))
    assert not redis.exists(f"{key_of(batch)}:open")


def test_a_job_that_joins_a_finished_batch_revives_it(redis: Redis, machine: JobStateMachine, batch: Batch) -> None:
    machine.cancel(joined(machine, batch))
    for key in (key_of(batch), f"{key_of(batch)}:items"):
        redis.expire(key, 5)
    late = joined(machine, batch)
    assert ttl_s(redis, batch) == (-1, -1)
    machine.cancel(late)
    assert all(left >= TTL_S - 2 for left in ttl_s(redis, batch))


def test_a_job_that_is_done_at_once_keeps_its_batch_as_long_as_itself(
    redis: Redis, machine: JobStateMachine, batch: Batch
) -> None:
    redis.expire(key_of(batch), 5)
    joined(machine, batch, JobState.SUCCEEDED)
    assert all(left >= TTL_S - 2 for left in ttl_s(redis, batch))


def test_deleting_a_finished_job_does_not_keep_its_batch_longer(
    redis: Redis, machine: JobStateMachine, batch: Batch
) -> None:
    job = joined(machine, batch)
    machine.cancel(job)
    redis.expire(key_of(batch), 5)
    machine.purge(job)
    assert redis.ttl(key_of(batch)) <= 5


def test_there_is_an_end_to_how_many_may_join(redis: Redis, machine: JobStateMachine, batch: Batch) -> None:
    redis.rpush(f"{key_of(batch)}:items", *['"job_x"'] * (MAX_BATCH_ITEMS - 1))
    joined(machine, batch)
    with pytest.raises(BatchFull):
        joined(machine, batch)


def test_a_refused_job_does_not_join(batches: BatchStore, machine: JobStateMachine, batch: Batch) -> None:
    job = joined(machine, batch)
    with pytest.raises(JobExists):
        machine.create(job)
    assert batches.items(batch) == [job.id]
