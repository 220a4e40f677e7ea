"""Records, queue and stored audio come back in step, whatever happened between them."""

import os
import time
from pathlib import Path

import pytest
from redis import Redis

from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import Job, JobState, JobStore
from app.core.storage.local import AudioStorage
from tests.worker.fakes import accepted, outcome, score_track, stored
from tests.worker.workers import worker
from worker.reconciler import Reconciler


@pytest.fixture
def queue(redis: Redis) -> ScoreQueue:
    return ScoreQueue(redis, name="scores")


@pytest.fixture
def reconciler(store: JobStore, queue: ScoreQueue, data_dir: Path) -> Reconciler:
    return Reconciler(store=store, queue=queue, storage=AudioStorage(data_dir / "audio"), max_attempts=3)


def lost_run(store: JobStore, data_dir: Path) -> Job:
    """A job whose worker died in the middle of it."""
    job = accepted(store, data_dir)
    store.start(job.id, max_attempts=3, lease_s=-1)
    return job


def test_a_job_that_was_never_queued_is_queued(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    assert reconciler.run() == []
    assert reconciler.run() == [job.id]
    assert reconciler.queue.depth() == 1


def test_a_job_that_waits_in_the_queue_is_left_alone(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    reconciler.queue.enqueue(accepted(store, data_dir).id)
    assert [reconciler.run(), reconciler.run()] == [[], []]
    assert reconciler.queue.depth() == 1


def test_a_job_in_a_live_workers_hands_is_left_alone(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    store.start(accepted(store, data_dir).id, max_attempts=3, lease_s=60)
    assert [reconciler.run(), reconciler.run()] == [[], []]


def test_a_lost_run_is_queued_again(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    job = lost_run(store, data_dir)
    reconciler.run()
    assert reconciler.run() == [job.id]
    score_track(store, data_dir)(job.id)
    assert outcome(store, job).attempt == 2
    assert outcome(store, job).status is JobState.SUCCEEDED


def test_an_id_that_rq_still_knows_is_queued_again(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    job = lost_run(store, data_dir)
    reconciler.queue.enqueue(job.id)
    store.redis.delete(reconciler.queue.rq.key)
    reconciler.run()
    assert reconciler.run() == [job.id]
    assert reconciler.queue.depth() == 1


def test_a_job_whose_runs_all_died_is_given_up(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    job = lost_run(store, data_dir)
    for _ in range(2):
        store.start(job.id, max_attempts=3, lease_s=-1)
    reconciler.run()
    reconciler.run()
    over = outcome(store, job)
    assert over.error
    assert (over.error["code"], over.error["attempts"]) == ("worker_lost", 3)
    assert stored(data_dir) == []


def test_two_reconcilers_queue_a_job_once(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    other = Reconciler(store=store, queue=reconciler.queue, storage=reconciler.storage, max_attempts=3)
    accepted(store, data_dir)
    for _ in range(3):
        reconciler.run()
        other.run()
    assert reconciler.queue.depth() == 1


def test_what_rq_carries_after_the_end_is_dropped(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    over, waiting = accepted(store, data_dir), accepted(store, data_dir)
    score_track(store, data_dir)(over.id)
    intermediate = reconciler.queue.rq.intermediate_queue
    store.redis.rpush(intermediate.key, over.id, waiting.id)
    reconciler.run()
    assert intermediate.get_job_ids() == [waiting.id]


def test_an_open_id_without_a_record_is_forgotten(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    store.redis.delete(f"apex:job:{job.id}")
    reconciler.run()
    assert store.unfinished_ids() == []


def test_old_audio_without_an_open_job_is_deleted(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    folder = data_dir / "audio"
    for name in ("stray", "half.part"):
        (folder / name).write_bytes(b"x")
    two_hours_ago = time.time() - 7200
    for path in folder.iterdir():
        os.utime(path, (two_hours_ago, two_hours_ago))
    (folder / "young.part").write_bytes(b"x")
    reconciler.run()
    assert sorted(stored(data_dir)) == sorted([job.id, "young.part"])


def test_a_job_that_waits_past_its_deadline_is_stopped(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    late = accepted(store, data_dir, deadline=time.time() - 1)
    early = accepted(store, data_dir, deadline=time.time() + 60)
    reconciler.run()
    assert outcome(store, late).status is JobState.CANCELED
    assert outcome(store, late).status_reason == "deadline_exceeded"
    assert outcome(store, early).status is JobState.QUEUED
    assert stored(data_dir) == [early.id]


def test_what_a_dead_worker_held_is_queued_again_at_once(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    store.start(job.id, max_attempts=3, lease_s=60, worker="life 1")
    ended: set[str] = set()
    reconciler = Reconciler(
        store=store, queue=queue, storage=AudioStorage(data_dir / "audio"), max_attempts=3, ended=ended
    )
    assert [reconciler.run(), reconciler.run()] == [[], []]
    ended.add("life 1")
    assert reconciler.run() == [job.id]
    assert outcome(store, job).attempts_used == 1


def test_a_job_that_was_begun_does_not_queue_up_again(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    waiting, lost = accepted(store, data_dir), lost_run(store, data_dir)
    reconciler.queue.enqueue(waiting.id)
    reconciler.run()
    reconciler.run()
    assert store.redis.lrange(reconciler.queue.rq.key, 0, -1) == [lost.id.encode(), waiting.id.encode()]


def test_a_dead_cleaner_of_rq_delays_nothing(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    """RQ's own recovery waits up to 899 s for this lock (catalogue A4)."""
    store.redis.set("rq:clean_registries:scores", 1, ex=899)
    job = lost_run(store, data_dir)
    reconciler.run()
    assert reconciler.run() == [job.id]


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED])
def test_what_is_over_stays_as_it_is_whatever_rq_holds(
    reconciler: Reconciler, store: JobStore, data_dir: Path, state: JobState
) -> None:
    """Catalogue B10 and B11: RQ would fail such a job, or run it again, a minute later."""
    job = ended_as(state, store, data_dir)
    before = outcome(store, job)
    rq = reconciler.queue.rq
    reconciler.queue.enqueue(job.id)
    store.redis.rpush(rq.intermediate_queue_key, job.id)
    store.redis.set(f"{rq.intermediate_queue_key}:first_seen:{job.id}", time.time() - 90)
    store.redis.zadd(rq.started_job_registry.key, {f"{job.id}:execution": time.time() - 90})
    worker(score_track(store, data_dir, on_decode=lambda: pytest.fail("it ran"))).work(burst=True)
    reconciler.run()
    assert outcome(store, job) == before
    assert store.redis.llen(rq.intermediate_queue_key) == store.redis.zcard(rq.started_job_registry.key) == 0


def test_what_a_worker_left_that_died_right_after_the_end_is_deleted(
    reconciler: Reconciler, store: JobStore, data_dir: Path
) -> None:
    """Found by a chaos run: the record was over, and RQ's hash stayed for ever."""
    job, rq = ended_as(JobState.SUCCEEDED, store, data_dir), reconciler.queue.rq
    reconciler.queue.enqueue(job.id)
    store.redis.delete(rq.key)
    store.redis.zadd(rq.started_job_registry.key, {f"{job.id}:execution": time.time() - 1})
    reconciler.run()
    assert store.redis.keys(f"*{job.id}*") == [key for key in store.redis.keys("apex:*") if job.id.encode() in key]


def test_what_a_live_run_holds_is_not_residue(reconciler: Reconciler, store: JobStore, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    reconciler.queue.enqueue(job.id)

    def look() -> None:
        before = sorted(store.redis.keys("rq:*"))
        reconciler.run()
        reconciler.run()
        assert sorted(store.redis.keys("rq:*")) == before

    worker(score_track(store, data_dir, on_decode=look)).work(burst=True, logging_level="WARNING")
    assert outcome(store, job).status is JobState.SUCCEEDED


def ended_as(state: JobState, store: JobStore, data_dir: Path) -> Job:
    job = accepted(store, data_dir)
    if state is JobState.CANCELED:
        store.cancel(job)
    else:
        if state is JobState.FAILED:
            (data_dir / "audio" / job.id).unlink()
        score_track(store, data_dir)(job.id)
    assert outcome(store, job).status is state
    return job


def test_an_id_left_between_the_queue_and_a_run_is_queued_again(
    reconciler: Reconciler, store: JobStore, data_dir: Path
) -> None:
    """Its worker died after it had taken the id, and before it had begun."""
    job = accepted(store, data_dir)
    reconciler.queue.enqueue(job.id)
    store.redis.lmove(reconciler.queue.rq.key, reconciler.queue.rq.intermediate_queue_key)
    reconciler.run()
    assert reconciler.run() == [job.id]
    assert reconciler.queue.depth() == 1
    assert store.redis.llen(reconciler.queue.rq.intermediate_queue_key) == 0


def test_nothing_is_reconciled_while_redis_is_away(store: JobStore, data_dir: Path) -> None:
    away = Redis(host="127.0.0.1", port=1)
    reconciler = Reconciler(
        store=JobStore(away, result_ttl_s=60),
        queue=ScoreQueue(away, name="scores"),
        storage=AudioStorage(data_dir / "audio"),
        max_attempts=3,
    )
    assert reconciler.run() == []
