"""`POST /batches/{id}/cancel`: what is left of a batch stops, and what is over stays."""

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.models import RunSignal
from tests.app.api.asgi import WAV
from tests.app.api.batches.requests import finish, read, send, wav
from tests.app.api.track_requests import stored
from tests.app.records import key_of

pytestmark = pytest.mark.anyio


async def test_waiting_jobs_end_at_once_and_running_ones_are_asked_to(
    client: httpx.AsyncClient, services: Services
) -> None:
    batch = await send(client, *map(wav, range(4)))
    ids = [item["job"]["id"] for item in batch["items"]]
    finish(services.machine, ids[0])
    run = services.machine.start(ids[1], max_attempts=3, lease_s=60)
    assert run
    answer = await client.post(f"/batches/{batch['id']}/cancel")
    assert answer.status_code == 202
    assert answer.headers["Retry-After"]
    counts = {"total": 4, "succeeded": 1, "running": 1, "canceled": 2, "queued": 0, "failed": 0}
    assert answer.json()["counts"].items() >= counts.items()
    assert services.machine.report(run) is RunSignal.BY_CLIENT
    assert len(stored(services)) == 2, "the audio of the run, and of the success, which its worker would delete"
    services.machine.stop(run, reason=RunSignal.BY_CLIENT)
    assert (await read(client, batch))["done"]


async def test_it_may_be_repeated_and_changes_nothing_that_is_over(
    client: httpx.AsyncClient, services: Services
) -> None:
    batch = await send(client, wav(1), wav(2))
    finish(services.machine, batch["items"][0]["job"]["id"])
    answers = [await client.post(f"/batches/{batch['id']}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert (answers[1].json()["counts"]["succeeded"], answers[1].json()["counts"]["canceled"]) == (1, 1)
    assert batch["items"][1]["job"]["id"] not in services.queue.rq.job_ids


async def test_a_large_batch_is_canceled_in_parts(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.core.jobs.unfinished.SLICE", 2)
    batch = await send(client, *map(wav, range(5)))
    assert (await client.post(f"/batches/{batch['id']}/cancel")).json()["counts"]["canceled"] == 5
    assert stored(services) == []


async def test_only_a_key_that_may_send_tracks_cancels_and_only_its_own(
    client: httpx.AsyncClient, redis: Redis
) -> None:
    acme, reader, other = key_of(redis, "acme"), key_of(redis, "acme", "jobs:read"), key_of(redis, "other")
    batch = (await client.post("/batches", files={"files": ("a.wav", WAV)}, headers=acme)).json()
    statuses = [
        (await client.post(f"/batches/{batch['id']}/cancel", headers=key)).status_code for key in (reader, other)
    ]
    assert statuses == [403, 404]
    assert (await client.get(f"/batches/{batch['id']}", headers=acme)).json()["counts"]["queued"] == 1
