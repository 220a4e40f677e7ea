"""The RQ subclass: it beats while it works, gives up what it cannot finish, and RQ still has what it overrides."""

import inspect
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from rq.worker import SimpleWorker, WorkerStatus

from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import JobState, JobStore
from tests.worker.fakes import accepted, outcome, score_track, stored
from tests.worker.workers import worker


@pytest.fixture
def queue(redis: Redis) -> ScoreQueue:
    return ScoreQueue(redis, name="scores")


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_queued_job_is_run_and_leaves_nothing_in_rq(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    queue.enqueue(job.id)
    worker(score_track(store, data_dir)).work(burst=True, logging_level="WARNING")
    assert outcome(store, job).status is JobState.SUCCEEDED
    assert [
        key for pattern in ("rq:job:*", "rq:exec*", "rq:queue:*", "rq:wip:*") for key in store.redis.keys(pattern)
    ] == []


def test_a_job_that_failed_as_expected_is_not_run_again(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    (data_dir / "audio" / job.id).unlink()
    queue.enqueue(job.id)
    worker(score_track(store, data_dir)).work(burst=True, logging_level="WARNING")
    assert outcome(store, job).attempt == 1


def test_a_surprise_is_none_of_rqs_business(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    def bug() -> None:
        raise RuntimeError("x" * 1_000_000)

    job = accepted(store, data_dir)
    queue.enqueue(job.id)
    worker(score_track(store, data_dir, on_decode=bug)).work(burst=True, logging_level="CRITICAL")
    over = outcome(store, job)
    assert (over.status, over.attempt) == (JobState.QUEUED, 1)
    assert store.redis.keys("rq:failed:*") == store.redis.keys("rq:job:*") == []


def test_a_long_job_stays_in_the_hands_of_its_worker(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    queue.enqueue(job.id)
    held = []

    def slow_segment() -> None:
        time.sleep(0.9)
        held.append(not store.is_orphaned(outcome(store, job)))

    task = score_track(store, data_dir, on_segment=slow_segment, lease_s=1)
    worker(task).work(burst=True, logging_level="WARNING")
    assert held == [True] * 3
    assert outcome(store, job).attempt == 1


def test_a_run_that_takes_too_long_fails(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    queue.enqueue(job.id)
    task = score_track(store, data_dir, on_segment=lambda: time.sleep(5))
    worker(task, job_timeout_s=1).work(burst=True, logging_level="WARNING")
    over = outcome(store, job)
    assert over.error
    assert (over.status, over.error["code"], over.attempt) == (JobState.FAILED, "timed_out", 1)


def test_a_worker_told_to_stop_hands_a_long_run_back(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job, next_job = accepted(store, data_dir), accepted(store, data_dir)
    queue.enqueue(job.id)
    queue.enqueue(next_job.id)

    def stop_twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    worker(score_track(store, data_dir, on_segment=stop_twice), grace_s=0.0).work(logging_level="WARNING")
    over = outcome(store, job)
    assert (over.status, over.attempt, over.attempts_used) == (JobState.QUEUED, 1, 0)
    assert outcome(store, next_job).attempt == 0
    assert sorted(stored(data_dir)) == sorted([job.id, next_job.id])


def test_a_run_that_ends_within_the_grace_is_finished(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    queue.enqueue(job.id)
    task = score_track(store, data_dir, on_decode=lambda: os.kill(os.getpid(), signal.SIGTERM))
    worker(task, grace_s=20.0).work(logging_level="WARNING")
    assert outcome(store, job).status is JobState.SUCCEEDED


def test_an_idle_worker_stops_at_once(store: JobStore, data_dir: Path) -> None:
    idle = worker(score_track(store, data_dir))
    began = time.monotonic()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    idle.work(logging_level="WARNING")
    assert time.monotonic() - began < 2
    assert idle.get_state() is WorkerStatus.IDLE


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("get_heartbeat_ttl", ["self", "job", "working_time"]),
        ("execute_job", ["self", "job", "queue"]),
        ("prepare_execution", ["self", "job"]),
        ("perform_job", ["self", "job", "queue", "execution"]),
        ("maintain_heartbeats", ["self", "job", "execution"]),
        ("set_state", ["self", "state", "pipeline"]),
        ("request_stop", ["self", "signum", "frame"]),
        ("subscribe", ["self"]),
        ("unsubscribe", ["self"]),
    ],
)
def test_rq_still_has_the_methods_that_we_override_or_call(method: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(SimpleWorker, method)).parameters) == parameters


def test_rq_still_asks_whether_maintenance_is_due() -> None:
    assert isinstance(inspect.getattr_static(SimpleWorker, "should_run_maintenance_tasks"), property)
