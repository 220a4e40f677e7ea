"""Requests that the tests of `POST /score` send, and what they leave behind."""

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import Message

from app.api.dependencies import Services
from app.core.jobs.models import Job
from app.core.json_types import Json
from tests.app.api.asgi import (
    RAW,
    WAV,
    AsgiResponse,
    Client,
    body_messages,
)
from tests.app.records import MODEL, RESULT, found
from tests.conftest import audio_files

KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8"'}
OTHER_WAV = WAV[:-1] + b"\0"
VERSION = str(MODEL["version"])


async def post(client: httpx.AsyncClient, body: bytes = WAV, **headers: str) -> httpx.Response:
    return await client.post("/score", content=body, headers=RAW | {n.replace("_", "-"): v for n, v in headers.items()})


async def repeat(client: httpx.AsyncClient, body: bytes = WAV) -> httpx.Response:
    return await client.post("/score", content=body, headers=RAW | KEY)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def files(services: Services) -> list[str]:
    return [file.name for file in audio_files(services.settings.audio_dir)]


def jobs_of(services: Services, tenant: str = "open") -> list[str]:
    return [job_id for _, job_id in services.jobs.list_by_created(tenant)]


async def asked(app: FastAPI, headers: dict[str, str], body: bytes = WAV) -> tuple[AsgiResponse, int]:
    """An answer, and how often the application asked for more of the body."""
    client = Client(app, body_messages([body]))
    return await client.post("/score", headers), client.asked


class Paused(Client):
    """A client that stops after its first message until it is told to go on."""

    def __init__(self, app: FastAPI, body: bytes) -> None:
        super().__init__(app, body_messages([body[:100], body[100:]]))
        self.go_on = asyncio.Event()
        self.pausing = asyncio.Event()

    async def receive(self) -> Message:
        if self.asked == 1:
            self.pausing.set()
            await self.go_on.wait()
        return await super().receive()


def score(services: Services, job_id: str, version: str = VERSION, *, result: Json = RESULT, **more: Any) -> Job:
    services.worker_info.publish_model(MODEL | {"version": version})
    run = services.machine.start(job_id, max_attempts=3, lease_s=60)
    assert run
    audio = run.audio | {"codec": "pcm_s16le", "duration_s": 3.0}
    services.machine.succeed(run, result=result, model=MODEL | {"version": version}, audio=audio, **more)
    services.storage.delete(job_id)
    return found(services.machine, run)
