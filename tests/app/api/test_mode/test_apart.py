"""Live and test data of one tenant are apart, in everything that either key can ask for."""

import hashlib
from pathlib import Path

import httpx
import pytest
from redis import Redis

from app.api.auth.api_keys import KeyFile, KeyStore
from app.api.dependencies import Services
from app.core.jobs.state_machine import JobStateMachine
from tests.app.api.asgi import RAW, WAV
from tests.app.records import MODEL, key_of, queued, running
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


async def test_neither_key_reaches_what_the_other_made(client: httpx.AsyncClient, redis: Redis) -> None:
    keys = key_of(redis, "acme"), key_of(redis, "acme", livemode=False)
    jobs = [(await client.post("/score/raw", content=WAV, headers={**RAW, **key})).json() for key in keys]
    batches = []
    for key in keys:
        files = {"files": ("a.wav", WAV)}
        batches.append((await client.post("/batches", files=files, headers=key)).json())
    assert [batch["livemode"] for batch in batches] == [True, False]
    for mine, other, key in zip(jobs, reversed(jobs), keys, strict=True):
        listed = (await client.get("/jobs", headers=key)).json()["items"]
        assert mine["id"] in {job["id"] for job in listed}
        assert {job["livemode"] for job in listed} == {mine["livemode"]}
        for method, path in (("GET", "self"), ("POST", "cancel"), ("GET", "events")):
            assert (await client.request(method, other["links"][path], headers=key)).status_code == 404
        assert (await client.delete(other["links"]["self"], headers=key)).status_code == 404
    for other, key in zip(reversed(batches), keys, strict=True):
        assert (await client.get(other["links"]["self"], headers=key)).status_code == 404


async def test_scores_that_a_test_job_got_answer_no_live_track(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    live, test = key_of(redis, "acme"), key_of(redis, "acme", livemode=False)
    await client.post("/score/raw", content=WAV, headers={**RAW, **test})
    services.simulator.run_due()
    assert (await client.post("/score/raw", content=WAV, headers={**RAW, **test})).status_code == 200
    assert (await client.post("/score/raw", content=WAV, headers={**RAW, **live})).status_code == 202


async def test_live_scores_answer_no_test_track(
    client: httpx.AsyncClient, machine: JobStateMachine, redis: Redis
) -> None:
    run = running(machine, tenant="acme", audio={"sha256": hashlib.sha256(WAV).hexdigest()})
    machine.succeed(run, result={"scores": {}, "ranges": {}}, model=MODEL | {"version": "apex-test"})
    answer = await client.post("/score/raw", content=WAV, headers={**RAW, **key_of(redis, "acme", livemode=False)})
    assert (answer.status_code, answer.json()["cached"]) == (202, False)


async def test_an_idempotency_key_is_of_live_or_of_test_data(client: httpx.AsyncClient, redis: Redis) -> None:
    made = set()
    for key in (key_of(redis, "acme"), key_of(redis, "acme", livemode=False)):
        headers = {**RAW, **key, "Idempotency-Key": "once"}
        made.add((await client.post("/score/raw", content=WAV, headers=headers)).json()["id"])
    assert len(made) == 2


async def test_a_full_queue_keeps_no_test_track_out(
    client: httpx.AsyncClient, machine: JobStateMachine, redis: Redis
) -> None:
    queued(machine, tenant="acme", estimated_s=1e9)
    statuses = []
    for key in (key_of(redis, "acme"), key_of(redis, "acme", livemode=False)):
        statuses.append((await client.post("/score/raw", content=WAV, headers={**RAW, **key})).status_code)
    assert statuses == [503, 202]


def test_a_test_key_opens_nothing_under_the_prefix_of_live_keys(redis: Redis) -> None:
    keys = KeyStore(redis, KEYS)
    key, presented = keys.create(tenant="acme", livemode=False)
    found = keys.find(presented)
    assert found == key
    assert not found.livemode
    assert keys.find(presented.replace("msk_test_", "msk_live_")) is None
    _, live = keys.create(tenant="acme")
    assert keys.find(live.replace("msk_live_", "msk_test_")) is None
    secret = presented.rpartition("_")[2]
    assert hashlib.sha256(secret.encode()).hexdigest() != key.sha256, "an older version would let it in as a live key"


def test_a_key_of_a_file_that_begins_like_a_test_key_is_one(tmp_path: Path) -> None:
    names = ("msk_test_ci_abc", "msk_live_ci_abc")
    path = tmp_path / "keys"
    path.write_text("".join(f"acme {hashlib.sha256(name.encode()).hexdigest()}\n" for name in names))
    keys = KeyFile.load(path)
    assert [key.livemode for name in names if (key := keys.find(name))] == [False, True]
