"""The queue: what RQ keeps of jobs and workers."""

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from rq.utils import utcformat

from app.core.jobs.queue import HEARTBEAT_MAX_AGE_S, ScoreQueue
from tests.app.records import live_worker


@pytest.fixture
def queue(redis: Redis) -> ScoreQueue:
    return ScoreQueue(redis, name="scores")


def ago(seconds: float) -> str:
    return str(utcformat(datetime.now(UTC) - timedelta(seconds=seconds)))


def test_workers_count_by_their_last_sign_of_life(queue: ScoreQueue, redis: Redis) -> None:
    assert queue.n_workers() == 0
    live_worker(redis, name="rq:worker:fresh", beat=ago(1))
    live_worker(redis, name="rq:worker:killed", beat=ago(HEARTBEAT_MAX_AGE_S + 1))
    live_worker(redis, name="rq:worker:of-another-clock", beat=ago(-5))
    redis.sadd("rq:workers:scores", "rq:worker:long-forgotten")
    assert queue.n_workers() == 2


def test_a_job_that_waits_is_forgotten_and_one_that_was_taken_is_not(queue: ScoreQueue, redis: Redis) -> None:
    for job_id in ("job_1", "job_2"):
        queue.enqueue(job_id)
    assert redis.lpop(queue.rq.key)
    for job_id in ("job_1", "job_2", "job_3"):
        queue.forget(job_id)
    assert queue.depth() == 0
    assert redis.keys("rq:job:*") == [b"rq:job:job_1"]
    assert queue.enqueue("job_2")
