"""Clocks that are wrong: of a front end, of a worker, and one of Redis that is set back while jobs run."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.api.auth.rate_limits import DAY_S, MINUTE_S, Quotas
from app.api.submissions.idempotency import Claim, IdempotencyKeys
from app.cli.serving.embedded_redis import EmbeddedRedis
from app.core.callers import Caller, Limits
from app.core.jobs.models import Job, JobState
from app.core.jobs.queue import HEARTBEAT_AT
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.storage.folder import FolderStorage
from tests.app.api.asgi import WAV
from tests.conftest import KEYS, state_machine
from tests.faketime import clock, set_clock
from tests.worker.fakes import accepted, outcome, score_track
from tests.worker.workers import worker
from worker.reconciler import Reconciler

FRONT_END = """
import asyncio, httpx, json, sys, time
from app.core.settings import ApiSettings
from app.main import create_app

async def main():
    app = create_app(ApiSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        headers = {"Content-Type": "audio/wav", "Cancel-After": "600"}
        track = sys.stdin.buffer.read()
        job = (await client.post("/score", content=track, headers=headers)).json()
        capacity = (await client.get("/capacity")).json()
        batch = (await client.post("/batches", files={"files": ("a", b"no audio")})).json()
        own = await client.post("/batches", files={"files": ("a", track + bytes(2))})
        paths = (job["links"]["self"], own.json()["links"]["self"])
        retry_after_s = [int((await client.get(path)).headers["Retry-After"]) for path in paths]
    said = {"now": time.time(), "job": job, "batch": batch, "workers_alive": capacity["workers_alive"],
            "retry_after_s": retry_after_s}
    print(json.dumps(said))

asyncio.run(main())
"""
WORKER = """
import sys
from pathlib import Path
from redis import Redis
from tests.conftest import KEYS, state_machine
from tests.worker.fakes import score_track
from tests.worker.workers import worker

machine = state_machine(Redis.from_url(sys.argv[1]))
worker(score_track(machine, Path(sys.argv[2]))).work(burst=True, logging_level="WARNING")
"""


@dataclass
class Elsewhere:
    """Runs code in a process with another clock."""

    environment: dict[str, str]

    def __call__(self, code: str, *arguments: str, sent: bytes = b"", **settings: str) -> Any:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, input=sent, env=self.environment | settings, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout or "null")


@pytest.fixture(params=[-DAY_S, DAY_S], ids=["a day slow", "a day fast"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Elsewhere:
    return Elsewhere(clock(tmp_path / "clock", request.param))


def reconciler(machine: JobStateMachine, data_dir: Path) -> Reconciler:
    return Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)


def test_a_front_end_with_a_wrong_clock_makes_jobs_that_are_run(
    elsewhere: Elsewhere, machine: JobStateMachine, redis: Redis, redis_url: str, data_dir: Path
) -> None:
    worker(score_track(machine, data_dir)).work(burst=True, logging_level="WARNING")
    QueueStatus(redis, KEYS).record_throughput(1.0)
    accepted(machine, data_dir, estimated_s=32.0)
    redis.sadd("rq:workers:scores", "rq:worker:alive")
    redis.hset("rq:worker:alive", HEARTBEAT_AT, str(time.time()))
    said = elsewhere(FRONT_END, sent=WAV, APEX_REDIS_URL=redis_url, APEX_DATA_DIR=str(data_dir))
    assert abs(said["now"] - time.time()) > DAY_S / 2
    assert said["workers_alive"] == 1
    assert said["retry_after_s"] == [8, 8], "a fourth of the 32 s that both wait for the job before them"
    job = machine.store.get(said["job"]["id"])
    assert job
    assert abs(job.created_at - time.time()) < DAY_S / 2
    assert job.deadline == pytest.approx(job.created_at + 600)
    assert datetime.fromisoformat(said["job"]["created_at"]).timestamp() == pytest.approx(job.created_at)
    assert abs(datetime.fromisoformat(said["batch"]["created_at"]).timestamp() - time.time()) < DAY_S / 2
    reconciler(machine, data_dir).run()
    worker(score_track(machine, data_dir)).work(burst=True, logging_level="WARNING")
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_worker_with_a_wrong_clock_runs_jobs_and_counts_as_alive(
    elsewhere: Elsewhere, machine: JobStateMachine, redis: Redis, redis_url: str, data_dir: Path
) -> None:
    job = accepted(machine, data_dir, deadline=time.time() + 600)
    elsewhere(WORKER, redis_url, str(data_dir))
    [key] = redis.keys("rq:worker:*")
    redis.sadd("rq:workers:scores", key)  # it has gone, and said so
    assert machine.queue.n_workers() == 1
    over = outcome(machine, job)
    assert over.status is JobState.SUCCEEDED
    assert 0 <= over.timings["total_s"] < DAY_S / 2


def test_a_reconciler_with_a_wrong_clock_leaves_young_audio_and_live_runs(
    elsewhere: Elsewhere, machine: JobStateMachine, redis_url: str, data_dir: Path
) -> None:
    job = accepted(machine, data_dir)
    machine.start(job.id, max_attempts=3, lease_s=60)
    young = data_dir / "audio" / "young"
    young.write_bytes(b"x")
    code = (
        WORKER.rpartition("worker(")[0]
        + """
from app.core.storage.folder import FolderStorage
from worker.reconciler import Reconciler
reconciler = Reconciler(machine=machine, storage=FolderStorage(Path(sys.argv[2]) / "audio"), max_attempts=3)
assert [reconciler.run(), reconciler.run()] == [[], []]
"""
    )
    elsewhere(code, redis_url, str(data_dir))
    assert young.exists()


@dataclass
class Jumping:
    """A Redis whose clock can be set."""

    redis: Redis
    set_clock: Callable[[int], None]


@pytest.fixture
def jumping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jumping]:
    file = tmp_path / "clock"
    with monkeypatch.context() as patch:
        for name, value in clock(file, 0).items():
            patch.setenv(name, value)
        server = EmbeddedRedis(tmp_path / "redis").__enter__()
    try:
        with Redis.from_url(server.url) as redis:
            yield Jumping(redis, lambda offset_s: set_clock(file, offset_s))
    finally:
        server.__exit__(None, None, None)


def test_a_dead_workers_job_runs_again_although_redis_was_set_back(jumping: Jumping, data_dir: Path) -> None:
    machine = state_machine(jumping.redis)
    job = accepted(machine, data_dir)
    jumping.redis.lpop(machine.queue.rq.key)
    assert machine.start(job.id, max_attempts=3, lease_s=12, worker="dead")
    before = jumping.redis.time()[0]
    jumping.set_clock(-DAY_S)
    assert jumping.redis.time()[0] < before - DAY_S / 2
    repairs = reconciler(machine, data_dir)
    assert [repairs.run(), repairs.run()] == [[], [job.id]]
    again = machine.start(job.id, max_attempts=3, lease_s=12, worker="alive")
    assert again
    assert again.attempt == 2
    assert machine.start(job.id, max_attempts=3, lease_s=12, worker="third") is None


def test_a_redis_that_was_set_back_refuses_nobody_for_longer_than_a_window(jumping: Jumping) -> None:
    quotas = Quotas(jumping.redis, KEYS)
    caller = Caller("acme", "key", limits=Limits(requests_per_minute=60, jobs_in_flight=1, bytes_per_day=1000))
    quotas.consume(caller, requests=30, n_bytes=10)
    jumping.set_clock(-DAY_S)
    refused = quotas.consume(caller, requests=1)
    assert refused
    assert refused.retry_after_s <= 1, "one of sixty a minute"
    assert all((each.reset_s or 0) <= (MINUTE_S if each.policy == "burst" else DAY_S) for each in refused.limits)


def test_an_idempotency_key_whose_request_died_can_be_taken_over_although_redis_was_set_back(jumping: Jumping) -> None:
    keys = IdempotencyKeys(jumping.redis, KEYS, result_ttl_s=60)
    first = keys.begin(tenant="a", route="r", key="k")
    jumping.set_clock(-DAY_S)
    again = keys.begin(tenant="a", route="r", key="k")
    assert isinstance(first, Claim)
    assert isinstance(again, Claim)
    assert again.taken_over


def test_a_worker_that_died_before_redis_was_set_back_is_not_alive(jumping: Jumping) -> None:
    machine = state_machine(jumping.redis)
    jumping.redis.sadd("rq:workers:scores", "rq:worker:one")
    jumping.redis.hset("rq:worker:one", HEARTBEAT_AT, str(jumping.redis.time()[0]))
    assert machine.queue.n_workers() == 1
    jumping.set_clock(-DAY_S)
    assert machine.queue.n_workers() == 0


def test_a_last_use_is_noted_although_redis_was_set_back(jumping: Jumping) -> None:
    quotas, caller = Quotas(jumping.redis, KEYS), Caller("acme", "key", limits=Limits(60, 1, 1000))
    quotas.consume(caller, requests=1)
    jumping.set_clock(-DAY_S)
    quotas.consume(caller, requests=1)
    noted = jumping.redis.hget(KEYS.api_key_last_uses, "key")
    assert float(noted or 0) <= jumping.redis.time()[0] + 1


def test_a_short_step_back_keeps_a_live_run(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    run = machine.start(job.id, max_attempts=3, lease_s=12)
    assert run
    step_back(machine, run, 0.5)
    assert machine.start(job.id, max_attempts=3, lease_s=12) is None


def step_back(machine: JobStateMachine, run: Job, seconds: float) -> None:
    """What a step of Redis's clock does to a run: its lease ends so much later by that clock."""
    machine.redis.hset(KEYS.record(run.id), "lease_until", str(run.lease_until + seconds))
