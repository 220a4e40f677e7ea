"""What cannot be read in Redis: one bad key or value costs what it belongs to, and nothing else.

Whatever is damaged, another tenant sends, reads, lists, cancels and groups jobs as before, the tenant's own other jobs
are served, lost jobs are queued again, and a worker runs what waits.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.batches.store import Batch, BatchStore
from app.api.jobs.events import EventStream, JobEventFeed
from app.core import stored
from app.core.callers import Caller
from app.core.jobs.models import Job, JobState
from app.core.jobs.state_machine import JobStateMachine
from app.core.storage.folder import FolderStorage
from tests.app.api.asgi import RAW, WAV
from tests.app.records import MODEL, key_of, live_worker, running, succeeded
from tests.conftest import KEYS
from tests.worker.fakes import accepted, outcome, score_track
from tests.worker.workers import worker
from worker.reconciler import Reconciler

pytestmark = pytest.mark.anyio

VICTIM, OTHER = "victim", "other"


@dataclass
class World:
    """A job that gets damaged, and all that must go on: jobs of its tenant and of another, lost ones among them."""

    redis: Redis
    machine: JobStateMachine
    data_dir: Path

    def __post_init__(self) -> None:
        batches = BatchStore(self.redis, KEYS, result_ttl_s=60)
        for tenant in (VICTIM, OTHER):
            batches.create(Batch(f"bat_{tenant}", tenant))
        self.damaged = running(self.machine, tenant=VICTIM, batch_id=f"bat_{VICTIM}", deadline=4e9)
        self.neighbour = succeeded(self.machine, tenant=VICTIM, batch_id=f"bat_{VICTIM}")
        self.waiting = self.accepted(batch_id=f"bat_{OTHER}")
        self.late = self.accepted(deadline=1.0)
        self.lost = self.accepted()
        _, queue, rq_job = self.machine.queue.keys(self.lost.id)
        self.redis.lrem(queue, 0, self.lost.id)
        self.redis.delete(rq_job)
        self.redis.set(KEYS.model, json.dumps({**MODEL, "scores": {"clarity": [1, 5]}}))
        live_worker(self.redis, beat="2026-11-27T00:00:00.000000Z")
        self.keys = {tenant: key_of(self.redis, tenant) for tenant in (VICTIM, OTHER)}

    def accepted(self, **values: object) -> Job:
        return accepted(self.machine, self.data_dir, tenant=OTHER, **values)

    async def is_served(self, client: httpx.AsyncClient) -> None:
        """Everybody but the damaged job."""
        other, own = self.keys[OTHER], self.keys[VICTIM]
        for path in ("/capacity", "/model", f"/jobs/{self.waiting.id}", f"/batches/bat_{OTHER}"):
            answer = await client.get(path, headers=other)
            assert answer.status_code == 200, f"{path}: {answer.text}"
        assert (await client.get("/readyz")).status_code == 200
        assert {self.waiting.id, self.lost.id} <= await listed(client, other)
        assert (await client.get(f"/jobs/{self.neighbour.id}", headers=own)).status_code == 200
        assert (await client.get("/jobs", headers=own)).status_code == 200
        sent = await client.post("/score", content=WAV, headers=RAW | other)
        assert sent.status_code == 202, sent.text
        for call in (client.post(f"/jobs/{sent.json()['id']}/cancel", headers=other),
                     client.delete(f"/jobs/{sent.json()['id']}", headers=other)):  # fmt: skip
            assert (await call).status_code in (200, 204)

    def is_repaired_and_worked_off(self) -> None:
        storage = FolderStorage(self.data_dir / "audio")
        reconciler = Reconciler(machine=self.machine, storage=storage, max_attempts=3)
        for _ in range(3):
            reconciler.run()
        worker(score_track(self.machine, self.data_dir)).work(burst=True, logging_level="WARNING")
        assert outcome(self.machine, self.late).status is JobState.CANCELED
        assert [outcome(self.machine, job).status for job in (self.waiting, self.lost)] == [JobState.SUCCEEDED] * 2


async def listed(client: httpx.AsyncClient, headers: dict[str, str]) -> set[str]:
    return {job["id"] for job in (await client.get("/jobs", headers=headers)).json()["items"]}


@pytest.fixture
def world(redis: Redis, machine: JobStateMachine, data_dir: Path) -> World:
    stored.set_aside.cache_clear()
    return World(redis, machine, data_dir)


#: Each kind of key: its name.
NAMES: dict[str, Callable[[World], str]] = {
    "record": lambda world: KEYS.record(world.damaged.id),
    "events": lambda world: KEYS.events(world.damaged.id),
    "tombstone": lambda world: KEYS.tombstone(world.damaged.id),
    "jobs of a tenant": lambda _: KEYS.by_created(VICTIM),
    "unfinished jobs of a tenant": lambda _: KEYS.in_flight(VICTIM),
    "unfinished": lambda _: KEYS.unfinished,
    "waiting": lambda _: KEYS.waiting,
    "deadlines": lambda _: KEYS.deadlines,
    "running": lambda _: KEYS.running,
    "counts of the queue": lambda _: KEYS.tenant_queues,
    "model": lambda _: KEYS.model,
    "sandbox layers": lambda _: KEYS.missing_sandbox_layers,
    "throughput": lambda _: KEYS.throughput,
    "last uses": lambda _: KEYS.api_key_last_uses,
    "quota": lambda world: KEYS.request_quota(world.keys[VICTIM]["Authorization"].split("_")[2]),
    "batch": lambda _: KEYS.batch(VICTIM, f"bat_{VICTIM}"),
    "items of a batch": lambda _: KEYS.batch_items(VICTIM, f"bat_{VICTIM}"),
    "unfinished jobs of a batch": lambda _: KEYS.batch_unfinished(VICTIM, f"bat_{VICTIM}"),
    "known scores": lambda _: KEYS.cached_result(OTHER, hashlib.sha256(WAV).hexdigest(), "apex-1.0.0"),
    "RQ's queues": lambda _: "rq:queues",
    "RQ's queue": lambda _: "rq:queue:scores",
    "RQ's intermediate list": lambda _: "rq:queue:scores:intermediate",
    "RQ's runs": lambda _: "rq:wip:scores",
    "RQ's workers": lambda _: "rq:workers:scores",
    "RQ's job": lambda world: world.machine.queue.keys(world.lost.id)[-1],
    "RQ's worker": lambda _: "rq:worker:test",
}
WRITE: dict[str, Callable[[Redis, str], object]] = {
    "string": lambda redis, key: redis.set(key, "text"),
    "list": lambda redis, key: redis.rpush(key, "item"),
    "hash": lambda redis, key: redis.hset(key, "field", "value"),
}


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("name", NAMES)
async def test_a_key_of_any_type_costs_only_what_it_holds(
    app: FastAPI, client: httpx.AsyncClient, world: World, redis: Redis, name: str, kind: str
) -> None:
    key = NAMES[name](world)
    redis.delete(key)
    WRITE[kind](redis, key)
    await world.is_served(client)
    world.is_repaired_and_worked_off()


async def test_a_stream_ends_when_its_job_cannot_be_read_any_more(app: FastAPI, world: World) -> None:
    """Its status was sent long ago, so that an error could only cut the connection."""
    feed = JobEventFeed(app.state.services, world.damaged, after=None)
    stream = EventStream(feed, Caller(VICTIM), reauthenticate=lambda: None)
    assert len(await stream._read()) == 1
    world.machine.report(world.damaged, progress={"stage": "embedding", "segments_done": 1, "segments_total": 2})
    world.machine.fail(world.damaged, error={"code": "internal_error"})
    world.redis.hset(KEYS.record(world.damaged.id), "status", '"paused"')
    assert await stream._read() == []
    assert feed.finished


def record(**fields: str) -> Callable[[World], object]:
    """Overwrites fields of the job's record."""
    return lambda world: [
        world.redis.hset(KEYS.record(world.damaged.id), name, value) for name, value in fields.items()
    ]


VALUES: dict[str, Callable[[World], object]] = {
    "no JSON": record(metadata="{"),
    "nothing": record(status=""),
    "an unknown state": record(status='"paused"'),
    "a number for a state": record(status="1"),
    "text for a number": record(attempt='"many"'),
    "text for a time": record(created_at='"yesterday"'),
    "a time that is none": record(created_at="1e300"),
    "not a number": record(lease_until="NaN"),
    "a list for an object": record(progress="[]"),
    "an object without what it must have": record(progress="{}"),
    "an object of the wrong things": record(audio='{"bytes": "many"}', result='{"scores": 1}'),
    "deep nesting": record(audio="[" * 100_000),
    "half of a character": record(metadata='{"a": "\\ud800"}'),
    "bytes that are no text": lambda world: world.redis.hset(
        KEYS.record(world.damaged.id), mapping={b"\xff": b"\xff", b"metadata": b"\xff"}
    ),
    "fields of a newer version": record(mood="calm", shape='{"a": 1}'),
    "a run of a newer version": lambda world: world.redis.hset(
        KEYS.running, "job_x", '{"started_at": 1, "audio_s": 2, "gpu": 3}'
    ),
    "a damaged run": lambda world: world.redis.hset(KEYS.running, "job_x", "{"),
    "text for the throughput": lambda world: world.redis.set(KEYS.throughput, "fast"),
    "a throughput of next to nothing": lambda world: world.redis.set(KEYS.throughput, "1e-300"),
    "no count of the queue": lambda world: world.redis.hset(KEYS.tenant_queues, "", "{"),
    "text for the audio that waits": lambda world: world.redis.hset(
        KEYS.tenant_queues, OTHER, '{"jobs": 1, "audio_ms": "much"}'
    ),
    "a model that is none": lambda world: world.redis.set(KEYS.model, "[1]"),
    "a model that cannot be shown": lambda world: world.redis.set(KEYS.model, '{"name": 1}'),
    "sandbox layers that are none": lambda world: world.redis.set(KEYS.missing_sandbox_layers, "{"),
    "a last use that is none": lambda world: world.redis.hset(KEYS.api_key_last_uses, "x", "never"),
    "a damaged API key": lambda world: world.redis.hset(KEYS.api_keys, "x", "{"),
    "an unknown id": lambda world: world.redis.zadd(KEYS.unfinished, {b"\xff\xfe": 1.0}),
    "an unknown id of a tenant": lambda world: world.redis.zadd(KEYS.by_created(OTHER), {b"\xff\xfe": 9e9}),
    "an unknown id in RQ's queue": lambda world: world.redis.rpush("rq:queue:scores", b"\xff\xfe"),
    "an unknown id that RQ holds": lambda world: world.redis.rpush("rq:queue:scores:intermediate", b"\xff\xfe"),
    "an unknown run of RQ": lambda world: world.redis.zadd("rq:wip:scores", {b"\xff\xfe": 1.0}),
    "an unknown worker": lambda world: world.redis.sadd("rq:workers:scores", b"\xff\xfe"),
    "a heartbeat that is none": lambda world: world.redis.hset("rq:worker:test", "last_heartbeat", "now"),
    "an item of a batch that is none": lambda world: world.redis.rpush(
        KEYS.batch_items(OTHER, f"bat_{OTHER}"), "{"
    ),
    "a batch of a newer version": lambda world: world.redis.hset(
        KEYS.batch(OTHER, f"bat_{OTHER}"), "mood", "calm"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_that_cannot_be_read_costs_only_what_it_belongs_to(
    app: FastAPI, client: httpx.AsyncClient, world: World, name: str
) -> None:
    VALUES[name](world)
    await world.is_served(client)
    world.is_repaired_and_worked_off()
