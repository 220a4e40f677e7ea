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
from tests.app.records import live_worker, queued

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
