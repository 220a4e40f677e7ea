"""`POST /batches`: each file has an outcome of its own."""

import errno
import logging
import re
from datetime import datetime

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.dependencies import Services
from app.api.schemas.batch import BatchCounts
from app.api.uploads.multipart import BATCH_FORM
from app.core.callers import Limits
from app.core.problems import Problem
from app.core.settings import ApiSettings
from app.core.storage.folder import PartialFile
from app.main import create_app
from tests.app.api.asgi import WAV
from tests.app.api.batches.requests import TEXT, files_of, finish, left_behind, read, send, wav
from tests.app.conftest import client_of
from tests.conftest import KEYS, audio_files

pytestmark = pytest.mark.anyio


async def test_each_file_has_an_outcome_in_the_order_of_the_form(client: httpx.AsyncClient, services: Services) -> None:
    contents = [("a.wav", wav(1)), ("b.txt", TEXT), ("c.wav", wav(2))]
    answer = await client.post("/batches", files=[("files", content) for content in contents])
    batch = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (207, f"/batches/{batch['id']}")
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch("bat_[0-9a-f]{32}", batch["id"])
    assert (batch["object"], batch["done"]) == ("batch", False)
    assert batch["counts"] == BatchCounts(total=3, queued=2, rejected=1).model_dump()
    shown = [(item["index"], item["filename"], item["status"]) for item in batch["items"]]
    assert shown == [(0, "a.wav", 202), (1, "b.txt", 415), (2, "c.wav", 202)]
    problem = batch["items"][1]["problem"]
    assert (problem["code"], problem["instance"]) == ("unsupported_media_type", "/batches")
    assert problem["request_id"] == answer.headers["x-request-id"]
    for item, (_, content) in zip(batch["items"], contents, strict=True):
        assert ("job" in item) != ("problem" in item)
        if "job" in item:
            assert (item["job"]["status"], item["job"]["batch_id"]) == ("queued", batch["id"])
            assert (services.settings.audio_dir / item["job"]["id"]).read_bytes() == content
    assert len(services.queue.rq) == 2


async def test_the_same_items_are_read_again_without_their_names(client: httpx.AsyncClient) -> None:
    sent = await send(client, wav(1), TEXT, batch_external_id="album-17", metadata='{"genre": "folk"}')
    found = await read(client, sent)
    assert (found["batch_external_id"], found["metadata"]) == ("album-17", {"genre": "folk"})
    for item in sent["items"]:
        del item["filename"]
    assert found == sent


async def test_a_file_name_is_echoed_and_nowhere_else(
    client: httpx.AsyncClient, services: Services, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await client.post("/batches", files=[("files", ("../x/whispered\t.wav", WAV))])
    assert answer.json()["items"][0]["filename"] == "whispered%09.wav"  # as httpx writes a tab
    everything = [redis.dump(key) or b"" for key in redis.scan_iter("*")]
    everything += [record.getMessage().encode() + str(vars(record)).encode() for record in caplog.records]
    everything += [file.name.encode() for file in audio_files(services.settings.audio_dir)]
    assert everything
    assert not [found for found in everything if b"whispered" in found]


async def test_a_whole_form_of_refused_files_is_a_finished_batch(client: httpx.AsyncClient, app: FastAPI) -> None:
    batch = await send(client, TEXT, b"")
    assert (batch["done"], batch["counts"]["rejected"], batch["estimated_done_at"]) == (True, 2, None)
    assert [item["status"] for item in batch["items"]] == [415, 415]
    assert len(left_behind(app)) == 2  # the batch and its items


async def test_a_file_beyond_the_callers_jobs_in_flight_is_refused_alone(settings: ApiSettings, redis: Redis) -> None:
    _, key = KeyStore(redis, KEYS).create(tenant="acme", limits=Limits(jobs_in_flight=2))
    app = create_app(settings, redis=redis)
    async with client_of(app) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        answer = await client.post("/batches", files=files_of(wav(1), wav(2), wav(3)))
        batch = answer.json()
    assert '"inflight";q=2' in answer.headers["ratelimit-policy"]
    assert [item["status"] for item in batch["items"]] == [202, 202, 429]
    assert batch["items"][2]["problem"]["violated_policies"] == ["inflight"]
    assert len(audio_files(app.state.services.settings.audio_dir)) == 2


async def test_a_file_that_cannot_be_stored_is_refused_alone(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PartialFile.commit

    def commit(file: PartialFile) -> None:
        if file.size_bytes > len(WAV):
            raise Problem("storage_full") from OSError(errno.ENOSPC, "full")
        real(file)

    monkeypatch.setattr(PartialFile, "commit", commit)
    batch = await send(client, WAV, wav(1))
    assert [item["status"] for item in batch["items"]] == [202, 507]


async def test_a_track_that_was_scored_before_is_done_at_once(client: httpx.AsyncClient, services: Services) -> None:
    services.worker_info.publish_model({"name": "apex", "version": "apex-1"})
    first = await send(client, wav(1))
    finish(services.machine, first["items"][0]["job"]["id"])
    again = await send(client, wav(1))
    assert (again["items"][0]["status"], again["items"][0]["job"]["cached"]) == (200, True)
    assert (again["done"], again["counts"]["succeeded"]) == (True, 1)


async def test_a_model_that_is_not_there_refuses_each_file(client: httpx.AsyncClient, services: Services) -> None:
    services.worker_info.publish_model({"name": "apex", "version": "apex-1"})
    assert (await send(client, wav(1), model_version="apex-1"))["items"][0]["status"] == 202
    [item] = (await send(client, wav(2), model_version="apex-2"))["items"]
    assert (item["status"], item["problem"]["errors"][0]["pointer"]) == (422, "#/model_version")


async def test_twenty_files_make_twenty_jobs(client: httpx.AsyncClient) -> None:
    batch = await send(client, *map(wav, range(BATCH_FORM.max_files)))
    assert [item["filename"] for item in batch["items"]] == [f"{n}.wav" for n in range(20)]
    assert (batch["counts"]["queued"], batch["next_cursor"]) == (20, None)


async def test_a_deadline_is_that_of_every_job(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", files=files_of(wav(1), wav(2)), headers={"Cancel-After": "10m"})
    for item in answer.json()["items"]:
        created, deadline = (datetime.fromisoformat(item["job"][name]) for name in ("created_at", "deadline"))
        assert (deadline - created).total_seconds() == 600
