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

from app.core.jobs.models import JobState, new_job_id
from app.core.jobs.queue import TASK_NAME, ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from app.core.storage.folder import FolderStorage
from tests.worker.fakes import accepted, outcome, score_track
from tests.worker.workers import worker
from worker.reconciler import Reconciler

KEY = "rq:queue:scores"


@pytest.fixture
def queue(redis: Redis) -> ScoreQueue:
    return ScoreQueue(redis, name="scores")


Poison = Callable[[Redis, str], object]


def overwrite(**fields: str | bytes) -> Poison:
    """Change what RQ stores about a job."""
    return lambda redis, job_id: [redis.hset(RqJob.key_for(job_id), name, text) for name, text in fields.items()]


def another_function(name: str, *args: object, **kwargs: object) -> Poison:
    return overwrite(data=zlib.compress(json.dumps([name, None, args, kwargs]).encode()))


def bomb() -> bytes:
    """A gigabyte of zeros, without the checksum that would follow."""
    packer = zlib.compressobj(9)
    first, next_ = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + 1023 * next_


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
def test_a_worker_reads_nothing_but_an_id_from_the_queue(machine: JobStateMachine, data_dir: Path, kind: str) -> None:
    bad, good = accepted(machine, data_dir), accepted(machine, data_dir)
    POISON[kind](machine.redis, bad.id)
    worker(score_track(machine, data_dir)).work(burst=True, logging_level="CRITICAL")
    assert outcome(machine, good).status is JobState.SUCCEEDED
    assert outcome(machine, bad).status is (JobState.QUEUED if kind == "a string" else JobState.SUCCEEDED)
    assert not Path(CANARY).exists()
    assert machine.redis.keys("rq:results:*") == []


def test_what_rq_cannot_read_is_queued_again(machine: JobStateMachine, queue: ScoreQueue, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    POISON["a string"](machine.redis, job.id)
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    for _ in range(3):
        worker(score_track(machine, data_dir)).work(burst=True, logging_level="CRITICAL")
        reconciler.run()
    assert outcome(machine, job).status is JobState.SUCCEEDED
    assert len(queue.rq) == 0


@pytest.mark.parametrize("entry", [b"\xff\xfe", b"", b"../../etc/passwd", b"job_" + b"Z" * 32, b"x" * 1_000_000])
def test_what_is_no_job_id_is_dropped(machine: JobStateMachine, data_dir: Path, entry: bytes) -> None:
    machine.redis.rpush(KEY, entry)
    good = accepted(machine, data_dir)
    worker(score_track(machine, data_dir)).work(burst=True, logging_level="CRITICAL")
    assert outcome(machine, good).status is JobState.SUCCEEDED
    assert machine.redis.keys(f"{KEY}*") == []


def test_a_foreign_job_does_not_run(machine: JobStateMachine, queue: ScoreQueue, data_dir: Path) -> None:
    foreign = Queue("scores", connection=machine.redis, serializer=JSONSerializer)
    foreign.enqueue("os.system", f"touch {CANARY}")
    foreign.enqueue("os.system", f"touch {CANARY}", job_id=new_job_id())
    worker(score_track(machine, data_dir)).work(burst=True, logging_level="CRITICAL")
    assert len(queue.rq) == 0
    assert not Path(CANARY).exists()
