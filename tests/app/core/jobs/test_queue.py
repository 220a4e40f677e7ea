"""The queue: what RQ keeps of jobs and workers."""

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from app.core.jobs.models import new_job_id
from app.core.jobs.queue import HEARTBEAT_MAX_AGE_S, TASK_NAME, ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.client import text
from tests.app.records import enqueue_by_rq, live_worker, queued


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
    assert (queue.workers().active, queue.workers().paused) == (2, 0)


def test_a_worker_that_pauses_is_alive_and_takes_no_jobs(queue: ScoreQueue, redis: Redis) -> None:
    for number, state in enumerate(["idle", "busy", "suspended"]):
        live_worker(redis, name=f"rq:worker:{number}", beat=ago(1), state=state)
    live_worker(redis, name="rq:worker:killed", beat=ago(HEARTBEAT_MAX_AGE_S + 1), state="suspended")
    assert (queue.workers().active, queue.workers().paused) == (2, 1)


def kept(redis: Redis, job_id: str) -> dict[bytes | str, bytes | str]:
    """What RQ keeps of a job, less what is empty and the times; the call uncompressed."""
    fields = redis.hgetall(RqJob.key_for(job_id))
    fields[b"data"] = RqJob.fetch(job_id, connection=redis, serializer=JSONSerializer).data
    return {name: value for name, value in fields.items() if value and not text(name).endswith("_at")}


def test_a_created_job_is_queued_as_rq_itself_would(machine: JobStateMachine, redis: Redis) -> None:
    """RQ's contract: each of its versions is asked what it writes."""
    ours, rqs = queued(machine).id, new_job_id()
    enqueue_by_rq(machine.queue, rqs)
    assert kept(redis, ours) == kept(redis, rqs) | {b"description": ours.encode()}
    assert machine.queue.rq.job_ids == [ours, rqs]
    assert redis.smembers("rq:queues") == {b"rq:queue:scores"}


def test_rq_reads_a_created_job(machine: JobStateMachine) -> None:
    before = datetime.now(UTC)
    job = machine.queue.rq.fetch_job(queued(machine).id)
    assert job
    assert (job.func_name, job.args, job.kwargs) == (TASK_NAME, [], {})
    assert before <= job.created_at == job.enqueued_at <= datetime.now(UTC)
    assert job.get_status() is JobStatus.QUEUED
