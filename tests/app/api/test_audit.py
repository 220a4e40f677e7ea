"""The audit log: a line for each change by a key, with who, what and to what, and for nothing else."""

import logging
from typing import Any

import httpx
import pytest
from redis import Redis

from app.core.jobs.state_machine import JobStateMachine
from tests.app.api.asgi import RAW, WAV
from tests.app.records import key_of, queued

pytestmark = pytest.mark.anyio

NAME = "our-track"


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="app.audit")


def changes(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    found = [vars(record) for record in caplog.records if record.name == "app.audit"]
    assert all(each["key_id"] for each in found)
    return [(each["tenant"], each["verb"], each["object"]) for each in found]


async def test_each_change_says_who_did_what_to_what(
    client: httpx.AsyncClient, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    key = key_of(redis, "acme")
    query = f"?external_id={NAME}"
    job = (await client.post(f"/score/raw{query}", content=WAV, headers={**RAW, **key})).json()["id"]
    batch = (await client.post("/batches", files={"files": (NAME, WAV)}, headers=key)).json()["id"]
    await client.post(f"/jobs/{job}/cancel", headers=key)
    await client.post(f"/batches/{batch}/cancel", headers=key)
    await client.delete(f"/jobs/{job}", headers=key)
    assert changes(caplog) == [
        ("acme", "score_raw", job),
        ("acme", "create_batch", batch),
        ("acme", "cancel_job", job),
        ("acme", "cancel_batch", batch),
        ("acme", "delete_job", job),
    ]
    assert NAME not in caplog.text


async def test_reading_refusals_and_replays_are_no_changes(
    client: httpx.AsyncClient, redis: Redis, machine: JobStateMachine, caplog: pytest.LogCaptureFixture
) -> None:
    key, reader, other = key_of(redis, "acme"), key_of(redis, "acme", "jobs:read"), key_of(redis, "other")
    job = queued(machine, tenant="acme").id
    for path in ("/jobs", f"/jobs/{job}", "/usage", "/results", "/batches"):
        await client.get(path, headers=key)
    for wrong in (reader, other, {}):
        await client.post(f"/jobs/{job}/cancel", headers=wrong)
        await client.delete(f"/jobs/{job}", headers=wrong)
    assert changes(caplog) == []
    for _ in range(3):
        await client.post("/score/raw", content=WAV, headers={**RAW, **key, "Idempotency-Key": "once"})
    assert [verb for _, verb, _ in changes(caplog)] == ["score_raw"]


async def test_a_service_without_keys_has_nobody_to_name(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.post("/score/raw", content=WAV, headers=RAW)).status_code == 202
    assert changes(caplog) == []
