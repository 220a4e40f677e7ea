"""`GET /usage`: what is left of a key's limits, and what its tenant used."""

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.state_machine import JobStateMachine
from tests.app.api.asgi import RAW, WAV
from tests.app.records import key_of, queued

pytestmark = pytest.mark.anyio


async def test_usage_has_the_days_of_the_tenant_and_the_share_of_each_key(
    client: httpx.AsyncClient, redis: Redis, services: Services
) -> None:
    keys = [key_of(redis, "acme", livemode=False) for _ in range(2)]
    for key, tracks in zip(keys, ([b"1", b"2"], [b"3"]), strict=True):
        for track in tracks:
            await client.post("/score/raw", content=WAV + track, headers={**RAW, **key})
    services.simulator.run_due()
    usage = (await client.get("/usage", headers=keys[0])).json()
    [day] = usage["days"]
    assert (usage["tenant"], usage["livemode"]) == ("acme", False)
    assert (day["jobs"], day["succeeded"], day["bytes"]) == (3, 3, 3 * (len(WAV) + 1))
    assert day["audio_seconds"] > 0
    assert {key["key_id"]: key["jobs"] for key in day["keys"]}[usage["key_id"]] == 2


async def test_a_key_reads_what_is_left_of_its_limits(client: httpx.AsyncClient, redis: Redis) -> None:
    key = key_of(redis, "acme")
    await client.get("/jobs", headers=key)
    usage = (await client.get("/usage", headers=key)).json()
    limits = {limit["policy"]: limit for limit in usage["limits"]}
    assert set(limits) == {"burst", "inflight", "bytes"}
    assert (limits["burst"]["limit"], limits["burst"]["window_s"]) == (1200, 60)
    assert limits["burst"]["remaining"] in (1198, 1199)
    assert (limits["inflight"]["remaining"], limits["inflight"]["window_s"]) == (200, None)


async def test_nobody_reads_the_usage_of_others(
    client: httpx.AsyncClient, redis: Redis, machine: JobStateMachine
) -> None:
    machine.cancel(queued(machine, tenant="acme"))
    for key in (key_of(redis, "other"), key_of(redis, "acme", livemode=False)):
        assert (await client.get("/usage", headers=key)).json()["days"] == []
    assert (await client.get("/usage?days=1000000000")).status_code == 401


async def test_a_service_without_keys_tells_what_was_used_of_it(
    client: httpx.AsyncClient, machine: JobStateMachine
) -> None:
    machine.cancel(queued(machine))
    usage = (await client.get("/usage?days=0")).json()
    assert (usage["tenant"], usage["key_id"], usage["limits"]) == ("open", None, [])
    assert [day["keys"][0]["key_id"] for day in usage["days"]] == [None]
    assert (await client.get("/usage?days=x")).status_code == 422
