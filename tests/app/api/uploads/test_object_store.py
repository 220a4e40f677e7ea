"""`POST /score` and `POST /batches` on a service that keeps its audio in an object store."""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.settings import ApiSettings
from app.core.storage.object_store import PART_BYTES
from app.main import create_app
from tests.app.api.asgi import FORM, RAW, WAV, Client, body_messages, form, part
from tests.app.conftest import client_of
from tests.app.core.storage.faults import BUSY, FaultyProxy, faulty_proxy
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio

LARGE = WAV + bytes(PART_BYTES)


@pytest.fixture
def proxy(s3: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3["AWS_ENDPOINT_URL"]) as passing:
        for name, value in {**s3, "AWS_ENDPOINT_URL": passing.url}.items():
            monkeypatch.setenv(name, value)
        yield passing


#: For tests that wait until the store counts as away; the others' requests succeed however busy the machine is.
waits_for_an_outage = pytest.mark.parametrize("timeout_s", [5])


@pytest.fixture
def timeout_s() -> float:
    return 60.0


@pytest.fixture
def settings(data_dir: Path, redis_url: str, proxy: FaultyProxy, timeout_s: float) -> ApiSettings:
    url = f"s3://apex/{secrets.token_hex(4)}"
    return ApiSettings(data_dir=data_dir, redis_url=redis_url, storage_url=url, storage_timeout_s=timeout_s)


def kept(services: Services) -> list[str]:
    return sorted(services.storage.orphans(older_than_s=-60))


def left_behind(services: Services) -> list[Any]:
    return [*kept(services), *UnfinishedJobs(services.redis, KEYS).ids(), *services.queue.rq.job_ids]


def audio_of(services: Services, job_id: str) -> bytes:
    job = services.jobs.get(job_id)
    assert job
    with services.storage.open(job.storage_key) as file:
        return file.read()


async def test_a_folder_elsewhere_needs_no_data_folder_before(tmp_path: Path, redis: Redis, redis_url: str) -> None:
    url = (tmp_path / "audio").as_uri()
    app = create_app(ApiSettings(data_dir=tmp_path / "none" / "yet", redis_url=redis_url, storage_url=url), redis=redis)
    async with client_of(app) as client:
        job = (await client.post("/score", content=WAV, headers=RAW)).json()
    assert (tmp_path / "audio" / job["id"]).read_bytes() == WAV
    assert (tmp_path / "none" / "yet").is_dir(), "what else the front end notes has a place"


@pytest.mark.parametrize("track", [WAV, LARGE], ids=["small", "parts"])
async def test_an_accepted_track_is_in_the_store_and_not_on_the_disk(
    client: httpx.AsyncClient, services: Services, data_dir: Path, track: bytes
) -> None:
    answer = await client.post("/score", content=track, headers=RAW)
    assert answer.status_code == 202
    assert audio_of(services, answer.json()["id"]) == track
    assert not (data_dir / "audio").exists()


async def test_a_batch_puts_each_file_under_a_key_of_its_own(client: httpx.AsyncClient, services: Services) -> None:
    body = form(part("files", WAV, filename="1.wav"), part("files", b"<html>" * 99), part("files", WAV + b"2"))
    answer = await client.post("/batches", content=body, headers=FORM)
    items = answer.json()["items"]
    assert [item["status"] for item in items] == [202, 415, 202]
    assert [audio_of(services, items[n]["job"]["id"]) for n in (0, 2)] == [WAV, WAV + b"2"]
    assert len(kept(services)) == 2


async def test_a_canceled_job_leaves_no_object(client: httpx.AsyncClient, services: Services) -> None:
    job = (await client.post("/score", content=WAV, headers=RAW)).json()
    await client.post(f"/jobs/{job['id']}/cancel")
    assert left_behind(services) == []


@waits_for_an_outage
async def test_a_store_that_is_away_refuses_the_track_and_leaves_nothing(
    client: httpx.AsyncClient, services: Services, proxy: FaultyProxy
) -> None:
    proxy.fail_all(BUSY)
    answer = await client.post("/score", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer.headers["retry-after"]
    proxy.heal()
    assert left_behind(services) == []
    assert (await client.post("/score", content=WAV, headers=RAW)).status_code == 202


async def test_a_client_that_leaves_leaves_nothing(app: FastAPI, services: Services, proxy: FaultyProxy) -> None:
    messages = [*body_messages([LARGE, LARGE], end=False), {"type": "http.disconnect"}]
    await Client(app, messages).post("/score", RAW)
    assert "DELETE" in [method for method, target in proxy.seen if "uploadId" in target], "the upload is aborted"
    assert left_behind(services) == []


async def test_others_are_served_while_the_store_stalls(client: httpx.AsyncClient, proxy: FaultyProxy) -> None:
    stalled = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stall(_method: str, _target: str) -> None:
        loop.call_soon_threadsafe(stalled.set)
        proxy.go_on.wait(30)

    proxy.fault = stall
    sending = asyncio.create_task(client.post("/score", content=LARGE, headers=RAW))
    await stalled.wait()
    assert (await client.get("/livez")).status_code == 200
    proxy.heal()
    proxy.go_on.set()
    await sending


@waits_for_an_outage
async def test_readiness_tells_of_a_store_that_takes_no_writes(client: httpx.AsyncClient, proxy: FaultyProxy) -> None:
    proxy.fail_all(BUSY)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["storage"]["status"] == "failed"
    proxy.heal()
    assert (await client.get("/readyz")).json()["checks"]["storage"]["status"] == "ok"


async def test_a_repeated_key_finds_its_job_and_stores_nothing_twice(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    headers = {**RAW, "Idempotency-Key": "k"}
    first = await client.post("/score", content=WAV, headers=headers)
    again = await client.post("/score", content=WAV, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert len(kept(services)) == 1
