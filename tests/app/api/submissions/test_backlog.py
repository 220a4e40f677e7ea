"""A full queue: no more tracks are admitted."""

import asyncio
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.dependencies import Services
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import (
    RAW,
    WAV,
    check_problem,
)
from tests.app.api.submissions.requests import (
    Paused,
    asked,
    files,
)
from tests.app.conftest import client_of
from tests.app.records import key_of, live_worker, queued

pytestmark = pytest.mark.anyio


@pytest.fixture
def narrow(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"max_queued_audio_s": 100.0}), redis=redis)


async def test_a_full_queue_says_when_there_will_be_room(narrow: FastAPI, redis: Redis, services: Services) -> None:
    for _ in range(4):
        queued(services.machine, estimated_s=60.0)
    answer, n_asked = await asked(narrow, RAW)
    check_problem(503, answer.headers["content-type"], answer.json())
    assert (answer.json()["code"], n_asked) == ("queue_full", 0)
    assert answer.headers["retry-after"] == "30"
    services.queue_status.record_throughput(2.0)
    for name in ("a", "b"):
        live_worker(redis, beat=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), name=f"rq:worker:{name}")
    answer, _ = await asked(narrow, RAW)
    assert answer.headers["retry-after"] == "35"  # 240 s wait, 100 may: 140 s at 2 workers' 2 s a second


async def test_the_queue_is_checked_again_when_the_job_is_created(narrow: FastAPI, services: Services) -> None:
    paused_clients = [Paused(narrow, WAV) for _ in range(2)]
    answering = [asyncio.create_task(paused.post("/score", RAW)) for paused in paused_clients]
    for paused in paused_clients:
        await paused.pausing.wait()
    queued(services.machine, estimated_s=1.0)
    queued(services.machine, estimated_s=200.0)
    for paused in paused_clients:
        paused.go_on.set()
    answers = await asyncio.gather(*answering)
    assert [(answer.status, answer.json()["code"]) for answer in answers] == [(503, "queue_full")] * 2
    assert files(services) == []


@pytest.fixture
def shared(settings: ApiSettings, redis: Redis) -> FastAPI:
    limits = {"require_api_keys": True, "max_queued_audio_s": 100.0}
    return create_app(settings.model_copy(update=limits), redis=redis)


async def test_a_tenant_that_fills_the_queue_is_refused_and_others_are_not(
    shared: FastAPI, redis: Redis, services: Services
) -> None:
    acme, other = key_of(redis, "acme"), key_of(redis, "other")
    queued(services.machine, tenant="acme", estimated_s=50.0)
    answer, n_asked = await asked(shared, RAW | acme)
    check_problem(429, answer.headers["content-type"], answer.json())
    assert (answer.json()["code"], n_asked) == ("queue_share_exceeded", 0)
    assert answer.headers["retry-after"] == "30"
    assert (await asked(shared, RAW | other))[0].status == 202


async def test_who_exceeds_its_share_is_told_when_there_will_be_room(
    shared: FastAPI, redis: Redis, services: Services
) -> None:
    queued(services.machine, tenant="acme", estimated_s=70.0)
    queued(services.machine, tenant="other", estimated_s=20.0)
    services.queue_status.record_throughput(2.0)
    live_worker(redis, beat=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    answer, _ = await asked(shared, RAW | key_of(redis, "acme"))
    assert answer.headers["retry-after"] == "15"  # after 30 s of its audio 40 s wait, and 40 are free


async def test_the_share_is_checked_again_when_the_job_is_created(
    shared: FastAPI, redis: Redis, services: Services
) -> None:
    paused = Paused(shared, WAV)
    answering = asyncio.create_task(paused.post("/score", RAW | key_of(redis, "acme")))
    await paused.pausing.wait()
    queued(services.machine, tenant="acme", estimated_s=60.0)
    paused.go_on.set()
    answer = await answering
    assert (answer.status, answer.json()["code"]) == (429, "queue_share_exceeded")
    assert files(services) == []


async def test_a_file_of_a_batch_that_exceeds_the_share_is_an_item_that_says_so(shared: FastAPI, redis: Redis) -> None:
    large = [("files", (f"{n}.wav", WAV + bytes([n]) + bytes(176_400 * 30))) for n in range(3)]
    async with client_of(shared) as client:
        answer = await client.post("/batches", files=large, headers=key_of(redis, "acme"))
    assert [item["status"] for item in answer.json()["items"]] == [202, 202, 429]
    assert answer.json()["items"][2]["problem"]["code"] == "queue_share_exceeded"


async def test_a_service_without_keys_has_one_tenant_who_may_take_all(narrow: FastAPI, services: Services) -> None:
    queued(services.machine, estimated_s=99.0)
    assert (await asked(narrow, RAW))[0].status == 202
