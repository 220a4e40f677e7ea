"""What the queue holds is untrusted: nothing that was not ours can run, and nothing stops the worker."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from app.core.jobs.queue import TASK_NAME, ScoreQueue
from app.core.jobs.store import JobState, JobStore, new_job_id
from app.core.storage.local import AudioStorage
from tests.worker.fakes import accepted, outcome, score_track
from tests.worker.workers import worker
from worker.reconciler import Reconciler

KEY = "rq:queue:scores"


@pytest.fixture
def queue(redis: Redis) -> ScoreQueue:
    return ScoreQueue(redis, name="scores")


def test_an_id_is_queued_only_once(queue: ScoreQueue) -> None:
    job_id = new_job_id()
    assert queue.enqueue(job_id)
    assert not queue.enqueue(job_id)
    assert queue.depth() == 1


def test_what_has_waited_once_goes_to_the_front(redis: Redis, queue: ScoreQueue) -> None:
    first, again = new_job_id(), new_job_id()
    queue.enqueue(first)
    queue.enqueue(again, at_front=True)
    assert redis.lrange(KEY, 0, -1) == [again.encode(), first.encode()]


Poison = Callable[[Redis, str], object]


def overwrite(**fields: str | bytes) -> Poison:
    """Change what RQ stores about a job."""
    return lambda redis, job_id: [redis.hset(RqJob.key_for(job_id), name, text) for name, text in fields.items()]


def another_function(name: str, *args: object, **kwargs: object) -> Poison:
    return overwrite(data=zlib.compress(json.dumps([name, None, args, kwargs]).encode()))


def bomb() -> bytes:
    """A gigabyte of zeros."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(1024)) + packer.flush()


CANARY = "/tmp/apex-canary"

POISON: dict[str, Poison] = {
    "os.system": another_function("os.system", f"touch {CANARY}"),
    "subprocess": another_function("subprocess.run", ["touch", CANARY]),
    "unknown arguments": another_function(TASK_NAME, "job_" + "0" * 32, more=1),
    "pickle": overwrite(data=b"cposix\nsystem\n(S'touch " + CANARY.encode() + b"'\ntR."),
    "a zlib bomb": overwrite(data=bomb()),
    "100 MB of arguments": overwrite(data=b"x" * 100_000_000),
    "no data at all": lambda redis, job_id: redis.hdel(RqJob.key_for(job_id), "data"),
    "callbacks": overwrite(success_callback_name="os.system", failure_callback_name="os.system"),
    "a webhook": overwrite(webhooks='[{"url": "http://127.0.0.1:1/", "statuses": ["finished"]}]'),
    "a bad timeout": overwrite(timeout="soon"),
    "a timeout of zero": overwrite(timeout="0"),
    "a bad status": overwrite(status="owned"),
    "bad dates": overwrite(created_at="yesterday", enqueued_at="\xff"),
    "bad numbers": overwrite(result_ttl="x", retries_left="y", repeats_left="z", rate_limit_concurrency="-"),
    "a dependency": overwrite(dependency_ids='["nobody"]', group_id="nobody"),
    "another queue": overwrite(origin="other"),
    "a string": lambda redis, job_id: redis.set(RqJob.key_for(job_id), "not a hash"),
    "a dependent": lambda redis, job_id: redis.sadd(RqJob.dependents_key_for(job_id), "../x"),
}


@pytest.mark.parametrize("kind", POISON)
def test_a_worker_reads_nothing_but_an_id_from_the_queue(
    store: JobStore, queue: ScoreQueue, data_dir: Path, kind: str
) -> None:
    bad, good = accepted(store, data_dir), accepted(store, data_dir)
    queue.enqueue(bad.id)
    POISON[kind](store.redis, bad.id)
    queue.enqueue(good.id)
    worker(score_track(store, data_dir)).work(burst=True, logging_level="CRITICAL")
    assert outcome(store, good).status is JobState.SUCCEEDED
    assert outcome(store, bad).status is (JobState.QUEUED if kind == "a string" else JobState.SUCCEEDED)
    assert not Path(CANARY).exists()
    assert store.redis.keys("rq:results:*") == []


def test_what_rq_cannot_read_is_queued_again(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    queue.enqueue(job.id)
    POISON["a string"](store.redis, job.id)
    reconciler = Reconciler(store=store, queue=queue, storage=AudioStorage(data_dir / "audio"), max_attempts=3)
    for _ in range(3):
        worker(score_track(store, data_dir)).work(burst=True, logging_level="CRITICAL")
        reconciler.run()
    assert outcome(store, job).status is JobState.SUCCEEDED
    assert queue.depth() == 0


@pytest.mark.parametrize("entry", [b"\xff\xfe", b"", b"../../etc/passwd", b"job_" + b"Z" * 32, b"x" * 1_000_000])
def test_what_is_no_job_id_is_dropped(store: JobStore, queue: ScoreQueue, data_dir: Path, entry: bytes) -> None:
    good = accepted(store, data_dir)
    store.redis.rpush(KEY, entry)
    queue.enqueue(good.id)
    worker(score_track(store, data_dir)).work(burst=True, logging_level="CRITICAL")
    assert outcome(store, good).status is JobState.SUCCEEDED
    assert store.redis.keys(f"{KEY}*") == []


def test_a_foreign_job_does_not_run(store: JobStore, queue: ScoreQueue, data_dir: Path) -> None:
    foreign = Queue("scores", connection=store.redis, serializer=JSONSerializer)
    foreign.enqueue("os.system", f"touch {CANARY}")
    foreign.enqueue("os.system", f"touch {CANARY}", job_id=new_job_id())
    worker(score_track(store, data_dir)).work(burst=True, logging_level="CRITICAL")
    assert queue.depth() == 0
    assert not Path(CANARY).exists()
