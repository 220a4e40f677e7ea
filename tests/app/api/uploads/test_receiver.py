"""Uploads, message by message: stalls, disconnections, early refusals, and what is on disk meanwhile."""

import asyncio
import hashlib
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis
from starlette.types import Message

from app.api.dependencies import Services
from app.api.uploads.receiver import WRITE_BYTES
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.settings import ApiSettings
from app.core.storage.folder import PartialFile
from app.main import create_app
from model.audio.containers import HEAD_BYTES
from tests.app.api.asgi import (
    FORM,
    RAW,
    WAV,
    AsgiResponse,
    Client,
    body_messages,
    check_problem,
    form,
    part,
    track_form,
)
from tests.conftest import KEYS, audio_files

pytestmark = pytest.mark.anyio

KIB = 1024


@pytest.fixture
def hasty(settings: ApiSettings, redis: Redis) -> FastAPI:
    limits = {"upload_idle_timeout_s": 0.05, "upload_timeout_s": 0.3, "max_upload_bytes": 100 * KIB}
    return create_app(settings.model_copy(update=limits), redis=redis)


def check_refused(answer: AsgiResponse, status: int, code: str) -> None:
    check_problem(status, answer.headers["content-type"], answer.json())
    assert answer.json()["code"] == code


def check_nothing_left(app: FastAPI) -> None:
    services: Services = app.state.services
    assert audio_files(services.settings.audio_dir) == []
    assert UnfinishedJobs(services.redis, KEYS).ids() == []


class Slow(Client):
    """Waits before each message."""

    delay_s = 60.0

    async def receive(self) -> Message:
        await asyncio.sleep(self.delay_s)
        return await super().receive()


@pytest.mark.parametrize("headers", [RAW, FORM])
async def test_a_stalled_upload_is_dropped(hasty: FastAPI, headers: dict[str, str]) -> None:
    answer = await Slow(hasty, body_messages([WAV])).post("/score", headers)
    check_refused(answer, 408, "upload_timeout")
    check_nothing_left(hasty)


async def test_an_upload_that_trickles_for_ever_is_dropped(hasty: FastAPI) -> None:
    client = Slow(hasty, body_messages([WAV] + [b"x"] * 1000))
    client.delay_s = 0.02
    answer = await client.post("/score", RAW | {"Transfer-Encoding": "chunked"})
    check_refused(answer, 408, "upload_timeout")
    assert answer.headers["connection"] == "close"
    check_nothing_left(hasty)


@pytest.mark.parametrize("headers", [RAW, FORM])
async def test_a_client_that_leaves_leaves_nothing_behind(app: FastAPI, headers: dict[str, str]) -> None:
    body = WAV if headers is RAW else track_form()
    for length in range(0, len(body), 97):
        answer = await Client(app, body_messages([body[:length]], end=False)).post("/score", headers)
        assert answer.messages == []
    check_nothing_left(app)


async def test_a_declared_length_over_the_limit_is_refused_unread(hasty: FastAPI) -> None:
    for headers in (RAW, FORM):
        client = Client(hasty, [])
        answer = await client.post("/score", headers | {"Content-Length": str(10**9)})
        check_refused(answer, 413, "payload_too_large")
        assert answer.headers["connection"] == "close"
        assert client.asked == 0


async def test_an_endless_body_is_refused_at_the_limit(hasty: FastAPI) -> None:
    def endless() -> Iterator[Message]:
        yield {"type": "http.request", "body": WAV, "more_body": True}
        while True:
            yield {"type": "http.request", "body": b"x" * KIB, "more_body": True}

    client = Client(hasty, endless())
    answer = await client.post("/score", RAW | {"Transfer-Encoding": "chunked"})
    check_refused(answer, 413, "payload_too_large")
    assert answer.headers["connection"] == "close"
    assert client.asked <= 101
    check_nothing_left(hasty)


async def test_a_file_that_is_no_audio_is_refused_at_its_first_bytes(app: FastAPI) -> None:
    client = Client(app, body_messages([b"<html>" + b"x" * KIB] + [b"x" * KIB] * 1000))
    answer = await client.post("/score", RAW | {"Content-Length": "1000000"})
    check_refused(answer, 415, "unsupported_media_type")
    assert client.asked == 1


async def test_audio_is_looked_for_behind_junk_and_no_further_than_junk_may_reach(app: FastAPI) -> None:
    client = Client(app, body_messages([b"x" * KIB] * 1000))
    check_refused(await client.post("/score", RAW), 415, "unsupported_media_type")
    assert client.asked == HEAD_BYTES / KIB
    behind_junk = [bytes(50 * KIB), WAV, b"x" * 100 * KIB]
    assert (await Client(app, body_messages(behind_junk)).post("/score", RAW)).status == 202


async def test_a_second_file_is_refused_at_its_first_bytes(app: FastAPI) -> None:
    client = Client(app, body_messages([form(part("file", WAV), part("file", WAV))] + [b"x"] * 1000))
    check_refused(await client.post("/score", FORM), 400, "too_many_files")
    assert client.asked == 1


async def test_a_track_is_written_in_large_blocks(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = PartialFile._write

    def noted(file: PartialFile, block: bytearray) -> None:
        sizes.append(len(block))
        real(file, block)

    monkeypatch.setattr(PartialFile, "_write", noted)
    answer = await Client(app, body_messages([WAV] + [b"x" * KIB] * 1024)).post("/score", RAW)
    assert answer.status == 202
    assert len(sizes) == 5
    assert min(sizes[:-1]) >= WRITE_BYTES


async def test_an_upload_cancelled_by_the_server_leaves_nothing_and_gets_a_response(app: FastAPI) -> None:
    answering = asyncio.create_task(Slow(app, body_messages([WAV])).post("/score", RAW))
    await asyncio.sleep(0.05)
    answering.cancel()
    check_refused(await answering, 503, "shutting_down")
    check_nothing_left(app)


BODY = track_form()


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(places=st.lists(st.integers(0, len(BODY)), max_size=30))
async def test_any_chunks_store_the_same_bytes_and_hash(app: FastAPI, places: list[int]) -> None:
    edges = [0, *sorted(places), len(BODY)]
    chunks = [BODY[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    answer = await Client(app, body_messages(chunks)).post("/score", FORM)
    job = answer.json()
    services: Services = app.state.services
    assert (services.settings.audio_dir / job["id"]).read_bytes() == WAV
    assert job["audio"]["sha256"] == hashlib.sha256(WAV).hexdigest()
