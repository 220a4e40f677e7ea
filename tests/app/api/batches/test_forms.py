"""`POST /batches`: a form is accepted as a whole or leaves nothing behind."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from redis.exceptions import ConnectionError

from app.api.auth.api_keys import KeyStore
from app.api.batches.store import BatchStore
from app.api.dependencies import Services
from app.api.schemas.options import BatchOptions
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.store import JobStore
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import FORM, RAW, WAV, Client, body_messages, form, part
from tests.app.api.batches.requests import KIB, TEXT, files_of, left_behind, read, send, wav
from tests.app.conftest import client_of
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio
BAD_FORMS = {
    "no file": (form(part("batch_external_id", b"x")), 400, "missing_file"),
    "no part": (form(), 400, "missing_file"),
    "a file under another name": (form(part("file", WAV)), 422, "validation_error"),
    "an option of a single track": (form(part("files", WAV), part("external_id", b"x")), 422, "validation_error"),
    "bad metadata": (form(part("files", WAV), part("metadata", b"[]")), 422, "validation_error"),
    "a long name": (form(part("files", WAV), part("batch_external_id", b"x" * 129)), 422, "validation_error"),
    "too many files": (form(*[part("files", WAV)] * 21), 400, "too_many_files"),
    "no end": (form(part("files", WAV))[:-4], 400, "malformed_multipart"),
}


@pytest.mark.parametrize("kind", BAD_FORMS)
async def test_a_form_that_cannot_be_read_makes_nothing(client: httpx.AsyncClient, app: FastAPI, kind: str) -> None:
    body, status, code = BAD_FORMS[kind]
    answer = await client.post("/batches", content=body, headers=FORM)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert left_behind(app) == []


async def test_a_field_in_the_query_is_refused_rather_than_dropped(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", params={"batch_external_id": "x"}, files=files_of(WAV))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/batch_external_id")


async def test_a_raw_body_is_no_batch(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["accepted"]) == (415, ["multipart/form-data"])


async def test_a_batch_whose_jobs_are_made_is_answered_though_redis_goes_away(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without an idempotency key would send it again, and have each job twice."""
    present = await send(client, wav(1), TEXT)

    def away(*_: object, **__: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(BatchStore, "status", away)
        patch.setattr(JobStore, "get_many", away)
        patch.setattr(QueueStatus, "positions", away)
        batch = await send(client, wav(1), TEXT)
    assert batch["counts"] == present["counts"]
    assert (batch["done"], [item["status"] for item in batch["items"]]) == (False, [202, 415])
    assert [item["filename"] for item in batch["items"]] == ["0.wav", "1.wav"]
    assert services.jobs.get(batch["items"][0]["job"]["id"])
    assert (await read(client, batch))["counts"] == batch["counts"]


async def test_a_client_that_leaves_midway_has_made_nothing(app: FastAPI) -> None:
    body = form(part("files", wav(1)), part("metadata", b"{}"), part("files", TEXT), part("files", wav(2)))
    before = open_descriptors()
    for length in range(0, len(body), 211):
        answer = await Client(app, body_messages([body[:length]], end=False)).post("/batches", FORM)
        assert answer.messages == []
    assert left_behind(app) == []
    assert open_descriptors() == before


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@pytest.fixture
def small(settings: ApiSettings, redis: Redis) -> FastAPI:
    """An application that takes files of 8 kB."""
    return create_app(settings.model_copy(update={"max_upload_bytes": 8 * KIB}), redis=redis)


async def test_a_file_that_is_too_large_takes_no_other_with_it(small: FastAPI) -> None:
    too_large = WAV + b"x" * 8 * KIB
    async with client_of(small) as client:
        batch = await send(client, wav(1), too_large, wav(2))
    assert [item["status"] for item in batch["items"]] == [202, 413, 202]
    assert batch["items"][1]["problem"]["limit_bytes"] == 8 * KIB
    assert len(left_behind(small)) == 2 * 3 + 4  # file, open job, queued id; batch, items, open, states


async def test_files_larger_than_memory_blocks_are_on_disk_before_the_form_ends(app: FastAPI) -> None:
    services: Services = app.state.services
    directory, sizes = services.settings.audio_dir, []

    def messages() -> Any:
        whole = form(part("files", WAV + b"x" * 600 * KIB), part("files", WAV + b"y" * 600 * KIB))
        for start in range(0, len(whole), 64 * KIB):
            sizes.append(sum(file.stat().st_size for file in Path(directory).iterdir()))
            more = start + 64 * KIB < len(whole)
            yield {"type": "http.request", "body": whole[start : start + 64 * KIB], "more_body": more}

    answer = await Client(app, messages()).post("/batches", FORM)
    assert answer.status == 207
    assert sizes[-1] > 600 * KIB


async def test_a_declared_length_that_no_batch_can_have_is_refused_unread(small: FastAPI) -> None:
    client = Client(small, [])
    answer = await client.post("/batches", FORM | {"Content-Length": str(10**9)})
    assert (answer.status, answer.json()["limit_bytes"], client.asked) == (413, 20 * 8 * KIB, 0)


async def test_the_rest_of_a_refused_file_is_not_read_for_ever(small: FastAPI) -> None:
    def endless() -> Any:
        yield {"type": "http.request", "body": form(part("files", WAV))[:-12], "more_body": True}
        while True:
            yield {"type": "http.request", "body": b"x" * KIB, "more_body": True}

    client = Client(small, endless())
    answer = await client.post("/batches", FORM | {"Transfer-Encoding": "chunked"})
    assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")
    assert client.asked < 20 * 8 + 256 + 10
    assert left_behind(small) == []


async def test_no_body_is_read_without_a_valid_key(settings: ApiSettings, redis: Redis) -> None:
    KeyStore(redis, KEYS).create(tenant="acme")
    for path, headers in (("/batches", FORM), ("/compare", {"Content-Type": "application/json"})):
        client = Client(create_app(settings, redis=redis), body_messages([b"x"]))
        answer = await client.post(path, headers | {"Content-Length": "1"})
        assert (answer.status, client.asked) == (401, 0)


async def test_every_option_of_a_batch_is_documented(app: FastAPI) -> None:
    document = app.openapi()
    schema = document["components"]["schemas"]["BatchForm"]
    assert list(schema["properties"]) == ["files", *BatchOptions.model_fields]
    assert schema["required"] == ["files"]
    assert (schema["properties"]["files"]["items"]["format"], schema["properties"]["files"]["maxItems"]) == (
        "binary",
        20,
    )
    assert json.dumps(document["paths"]["/batches"]).count("#/components/schemas/BatchForm") == 1
