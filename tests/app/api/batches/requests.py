"""Requests that the tests of `/batches` send, and what they leave behind."""

from typing import Any

import httpx
from fastapi import FastAPI

from app.api.dependencies import Services
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.json_types import Json
from model.domain import SCORE_RANGES
from tests.app.api.asgi import WAV
from tests.conftest import KEYS, audio_files

KIB = 1024
TEXT = b"I am no audio. " * 10


def wav(n: int) -> bytes:
    """A file unlike the others."""
    return WAV + bytes([n])


def files_of(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{n}.wav", content)) for n, content in enumerate(contents)]


async def send(client: httpx.AsyncClient, *contents: bytes, **fields: str) -> Json:
    answer = await client.post("/batches", files=files_of(*contents), data=fields)
    assert answer.status_code == 207, answer.text
    batch: Json = answer.json()
    return batch


async def read(client: httpx.AsyncClient, batch: Json, **query: Any) -> Json:
    answer = await client.get(batch["links"]["self"], params=query)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def left_behind(app: FastAPI) -> list[Any]:
    services: Services = app.state.services
    batches = sorted(services.redis.scan_iter("apex:batch:*"))
    return [
        *audio_files(services.settings.audio_dir),
        *UnfinishedJobs(services.redis, KEYS).ids(),
        *services.queue.rq.job_ids,
        *batches,
    ]


def finish(jobs: JobStateMachine, job_id: str) -> None:
    run = jobs.start(job_id, max_attempts=3, lease_s=60)
    assert run
    result = {"scores": dict.fromkeys(SCORE_RANGES, 3.0), "ranges": SCORE_RANGES}
    assert jobs.succeed(run, result=result, model={"name": "apex", "version": "apex-1", "trained": True})
