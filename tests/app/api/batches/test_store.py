"""Batches in Redis: who may join, in which order, and how long a batch is kept."""

from dataclasses import replace

import pytest
from redis import Redis

from app.api.batches.store import Batch, BatchStore, counts, new_batch_id
from app.core.jobs import scripts
from app.core.jobs.store import (
    BatchFull,
    Job,
    JobExists,
    JobState,
    JobStore,
    RunSignal,
    UnknownBatch,
    batch_key,
    new_job_id,
)

TTL_S = 60  # that of the `store` fixture


@pytest.fixture
def batches(redis: Redis, store: JobStore) -> BatchStore:
    return BatchStore(redis, store)


@pytest.fixture
def batch(batches: BatchStore) -> Batch:
    batch = Batch(new_batch_id(), "acme", "album-17", {"genre": "folk"})
    batches.create(batch)
    return batch


def joined(store: JobStore, batch: Batch, status: JobState = JobState.QUEUED) -> Job:
    job = Job(id=new_job_id(), storage_key="x", tenant=batch.tenant, batch_id=batch.id, status=status)
    store.create(job)
    return job


def started(store: JobStore, job: Job) -> Job:
    run = store.start(job.id, max_attempts=3, lease_s=60)
    assert run
    return run


def ttl_s(redis: Redis, batch: Batch) -> tuple[int, int]:
    """What is left to the record and to its items; -1 for no end."""
    key = batch_key(batch.tenant, batch.id)
    return redis.ttl(key), redis.ttl(f"{key}:items")


def test_a_batch_is_read_as_it_was_written(batches: BatchStore, batch: Batch) -> None:
    assert batches.get("acme", batch.id) == batch


def test_another_tenants_batch_is_as_unknown_as_none(batches: BatchStore, store: JobStore, batch: Batch) -> None:
    assert batches.get("other", batch.id) is None
    assert batches.get("acme", "bat_unknown") is None
    for stranger in (replace(batch, tenant="other"), replace(batch, id="bat_unknown")):
        with pytest.raises(UnknownBatch):
            joined(store, stranger)
    assert batches.items(batch) == []


def test_a_record_of_a_later_version_can_be_read(redis: Redis, batches: BatchStore, batch: Batch) -> None:
    redis.hset(batch.key, "from_the_future", "1")
    assert batches.get("acme", batch.id) == batch


def test_items_keep_the_order_in_which_they_came(batches: BatchStore, store: JobStore, batch: Batch) -> None:
    first = joined(store, batch)
    batches.reject(batch, {"code": "unsupported_media_type"})
    second = joined(store, batch)
    assert batches.items(batch) == [first.id, {"code": "unsupported_media_type"}, second.id]


def test_counts_are_what_the_jobs_say(batches: BatchStore, store: JobStore, batch: Batch) -> None:
    jobs = [joined(store, batch) for _ in range(6)]
    batches.reject(batch, {"code": "unsupported_media_type"})
    started(store, jobs[1])
    store.succeed(started(store, jobs[2]), result={})
    store.fail(started(store, jobs[3]), error={})
    store.cancel(jobs[4])
    store.purge(jobs[5])
    items = batches.items(batch)
    states = ["queued", "running", "succeeded", "failed", "canceled", "expired", "rejected"]
    assert batches.states(items) == states
    assert counts(batches.states(items)) == {"total": 7, **dict.fromkeys(states, 1)}


def test_a_batch_without_jobs_expires_like_a_finished_one(redis: Redis, batches: BatchStore, batch: Batch) -> None:
    assert 0 < redis.ttl(batch.key) <= TTL_S
    batches.reject(batch, {"code": "unsupported_media_type"})
    assert all(0 < left <= TTL_S for left in ttl_s(redis, batch))


ENDS = {
    "succeeded": lambda store, job: store.succeed(started(store, job), result={}),
    "failed": lambda store, job: store.fail(started(store, job), error={}),
    "canceled while it waits": lambda store, job: store.cancel(job),
    "canceled while it runs": lambda store, job: store.stop(started(store, job), reason=RunSignal.BY_CLIENT),
    "purged": lambda store, job: store.purge(job),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_batch_has_no_end_before_its_last_job_and_ends_with_it(
    redis: Redis, batches: BatchStore, store: JobStore, batch: Batch, end: str
) -> None:
    first, last = joined(store, batch), joined(store, batch)
    batches.reject(batch, {"code": "queue_full"})
    assert ttl_s(redis, batch) == (-1, -1)
    store.succeed(started(store, first), result={})
    assert ttl_s(redis, batch) == (-1, -1)
    ENDS[end](store, last)
    assert all(TTL_S - 2 <= left <= TTL_S for left in ttl_s(redis, batch))
    assert not redis.exists(f"{batch.key}:open")


def test_a_job_that_joins_a_finished_batch_revives_it(redis: Redis, store: JobStore, batch: Batch) -> None:
    store.cancel(joined(store, batch))
    for key in (batch.key, f"{batch.key}:items"):
        redis.expire(key, 5)
    late = joined(store, batch)
    assert ttl_s(redis, batch) == (-1, -1)
    store.cancel(late)
    assert all(left >= TTL_S - 2 for left in ttl_s(redis, batch))


def test_a_job_that_is_done_at_once_keeps_its_batch_as_long_as_itself(
    redis: Redis, store: JobStore, batch: Batch
) -> None:
    redis.expire(batch.key, 5)
    joined(store, batch, JobState.SUCCEEDED)
    assert all(left >= TTL_S - 2 for left in ttl_s(redis, batch))


def test_deleting_a_finished_job_does_not_keep_its_batch_longer(redis: Redis, store: JobStore, batch: Batch) -> None:
    job = joined(store, batch)
    store.cancel(job)
    redis.expire(batch.key, 5)
    store.purge(job)
    assert redis.ttl(batch.key) <= 5


def test_there_is_an_end_to_how_many_may_join(redis: Redis, store: JobStore, batch: Batch) -> None:
    redis.rpush(f"{batch.key}:items", *['"job_x"'] * (scripts.MAX_BATCH_ITEMS - 1))
    joined(store, batch)
    with pytest.raises(BatchFull):
        joined(store, batch)


def test_a_refused_job_does_not_join(batches: BatchStore, store: JobStore, batch: Batch) -> None:
    job = joined(store, batch)
    with pytest.raises(JobExists):
        store.create(job)
    assert batches.items(batch) == [job.id]
