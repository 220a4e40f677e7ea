"""`GET /operations`: how the service as a whole is doing, for keys with the scope `ops:read` alone."""

from datetime import UTC, datetime

import httpx
import pytest
from redis import Redis

from app.core.callers import DEFAULT_SCOPES
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import WORKER_KEY, key_of, live_worker, running

pytestmark = pytest.mark.anyio


async def test_jobs_of_all_tenants_are_counted_and_none_is_named(
    client: httpx.AsyncClient, redis: Redis, machine: JobStateMachine
) -> None:
    for tenant in ("acme", "other"):
        machine.fail(running(machine, tenant=tenant), error={"code": "audio_too_short"})
    answer = await client.get("/operations?hours=2", headers=key_of(redis, "boss", "ops:read"))
    intervals = answer.json()["activity"]
    assert len(intervals) == 8
    assert sum(each["failed"] for each in intervals) == 2
    assert sum(each["failures"].get("audio_too_short", 0) for each in intervals) == 2
    assert any(each["longest_wait_s"] is not None for each in intervals)
    assert not any(name in answer.text for name in ("acme", "other"))


async def test_workers_say_where_and_on_what_they_run(client: httpx.AsyncClient, redis: Redis) -> None:
    live_worker(redis, beat=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), state="suspended")
    [worker] = (await client.get("/operations")).json()["workers"]
    assert worker == {"host": None, "model_version": None, "device": None, "paused": True}  # of an older release
    redis.hset(
        WORKER_KEY, mapping={"hostname": "gpu-1", "model_version": "apex-1", "device": "cuda:0", "state": "busy"}
    )
    [worker] = (await client.get("/operations")).json()["workers"]
    assert worker == {"host": "gpu-1", "model_version": "apex-1", "device": "cuda:0", "paused": False}


async def test_the_storage_tells_its_room(client: httpx.AsyncClient) -> None:
    storage = (await client.get("/operations")).json()["storage"]
    assert storage["free_bytes"] > storage["needed_bytes"] > 0


async def test_a_usual_key_reads_nothing_of_it(client: httpx.AsyncClient, redis: Redis) -> None:
    refused = await client.get("/operations", headers=key_of(redis, "acme", *DEFAULT_SCOPES))
    assert (refused.status_code, refused.json()["required_scope"]) == (403, "ops:read")
