"""Requests that the tests of `POST /score` send, and what they leave behind."""

from typing import Any

import httpx

from app.api.dependencies import Services
from app.core.jobs.unfinished import UnfinishedJobs
from tests.app.api.asgi import FORM, SECRET
from tests.conftest import KEYS, audio_files


def stored(services: Services) -> list[bytes]:
    return [file.read_bytes() for file in audio_files(services.settings.audio_dir)]


def left_behind(services: Services) -> list[Any]:
    return [
        *audio_files(services.settings.audio_dir),
        *UnfinishedJobs(services.redis, KEYS).ids(),
        *services.queue.rq.job_ids,
    ]


async def post_form(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post("/score", content=body, headers=FORM)


NOT_AUDIO = b"<html>" + SECRET.encode() * 100
