"""`/batches`: each file has its own outcome, the form has one, and a form that is cut off has none."""

import asyncio
import base64
import errno
import hashlib
import json
import logging
import os
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from redis.exceptions import ConnectionError

from app.api.auth.api_keys import KeyStore
from app.api.dependencies import Services
from app.api.schemas.batch import BatchCounts
from app.api.schemas.options import BatchOptions
from app.api.uploads.multipart import BATCH_FORM
from app.core.callers import Limits
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.json_types import Json
from app.core.problems import Problem
from app.core.settings import ApiSettings
from app.core.storage.local import PartialUpload
from app.main import create_app
from model.domain import SCORE_RANGES
from tests.app.api.asgi import FORM, RAW, WAV, Client, body_messages, form, part
from tests.app.conftest import client_of

pytestmark = pytest.mark.anyio

KIB = 1024
TEXT = b"I am no audio. " * 10


@pytest.fixture
def small(settings: ApiSettings, redis: Redis) -> FastAPI:
    """An application that takes files of 8 kB."""
    return create_app(settings.model_copy(update={"max_upload_bytes": 8 * KIB}), redis=redis)


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
        *services.storage.directory.iterdir(),
        *UnfinishedJobs(services.redis).ids(),
        *services.queue.rq.job_ids,
        *batches,
    ]


def finish(jobs: JobStateMachine, job_id: str) -> None:
    run = jobs.start(job_id, max_attempts=3, lease_s=60)
    assert run
    result = {"scores": dict.fromkeys(SCORE_RANGES, 3.0), "ranges": SCORE_RANGES}
    assert jobs.succeed(run, result=result, model={"name": "apex", "version": "apex-1", "trained": True})


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
            assert services.storage.path(item["job"]["id"]).read_bytes() == content
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
    everything += [file.name.encode() for file in services.storage.directory.iterdir()]
    assert everything
    assert not [found for found in everything if b"whispered" in found]


async def test_a_file_that_is_too_large_takes_no_other_with_it(small: FastAPI) -> None:
    too_large = WAV + b"x" * 8 * KIB
    async with client_of(small) as client:
        batch = await send(client, wav(1), too_large, wav(2))
    assert [item["status"] for item in batch["items"]] == [202, 413, 202]
    assert batch["items"][1]["problem"]["limit_bytes"] == 8 * KIB
    assert len(left_behind(small)) == 2 * 3 + 3  # file, open job, queued id; batch, items, open


async def test_a_whole_form_of_refused_files_is_a_finished_batch(client: httpx.AsyncClient, app: FastAPI) -> None:
    batch = await send(client, TEXT, b"")
    assert (batch["done"], batch["counts"]["rejected"], batch["estimated_done_at"]) == (True, 2, None)
    assert [item["status"] for item in batch["items"]] == [415, 415]
    assert len(left_behind(app)) == 2  # the batch and its items


async def test_a_file_beyond_the_callers_jobs_in_flight_is_refused_alone(settings: ApiSettings, redis: Redis) -> None:
    _, key = KeyStore(redis).create(tenant="acme", limits=Limits(jobs_in_flight=2))
    app = create_app(settings, redis=redis)
    async with client_of(app) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        answer = await client.post("/batches", files=files_of(wav(1), wav(2), wav(3)))
        batch = answer.json()
    assert '"inflight";q=2' in answer.headers["ratelimit-policy"]
    assert [item["status"] for item in batch["items"]] == [202, 202, 429]
    assert batch["items"][2]["problem"]["violated_policies"] == ["inflight"]
    assert len(list(app.state.services.storage.directory.iterdir())) == 2


async def test_a_file_that_cannot_be_stored_is_refused_alone(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PartialUpload.commit

    def commit(file: PartialUpload, key: str) -> None:
        if file.size_bytes > len(WAV):
            raise Problem("storage_full") from OSError(errno.ENOSPC, "full")
        real(file, key)

    monkeypatch.setattr(PartialUpload, "commit", commit)
    batch = await send(client, WAV, wav(1))
    assert [item["status"] for item in batch["items"]] == [202, 507]


async def test_a_track_whose_scores_are_known_is_done_at_once(client: httpx.AsyncClient, services: Services) -> None:
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


async def test_twenty_files_make_twenty_jobs(client: httpx.AsyncClient) -> None:
    batch = await send(client, *map(wav, range(BATCH_FORM.max_files)))
    assert [item["filename"] for item in batch["items"]] == [f"{n}.wav" for n in range(20)]
    assert (batch["counts"]["queued"], batch["next_cursor"]) == (20, None)


async def test_a_field_in_the_query_is_refused_rather_than_dropped(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", params={"batch_external_id": "x"}, files=files_of(WAV))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/batch_external_id")


async def test_whoever_follows_a_batch_is_told_when_to_look_again(client: httpx.AsyncClient) -> None:
    open_batch, finished = await send(client, WAV), await send(client, TEXT)
    assert (await client.get(open_batch["links"]["self"])).headers["retry-after"] == "1"
    assert "retry-after" not in (await client.get(finished["links"]["self"])).headers


async def test_a_raw_body_is_no_batch(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["accepted"]) == (415, ["multipart/form-data"])


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


async def test_files_larger_than_memory_blocks_are_on_disk_before_the_form_ends(app: FastAPI) -> None:
    services: Services = app.state.services
    directory, sizes = services.storage.directory, []

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


async def test_nothing_is_read_from_a_stranger(settings: ApiSettings, redis: Redis) -> None:
    KeyStore(redis).create(tenant="acme")
    for path, headers in (("/batches", FORM), ("/compare", {"Content-Type": "application/json"})):
        client = Client(create_app(settings, redis=redis), body_messages([b"x"]))
        answer = await client.post(path, headers | {"Content-Length": "1"})
        assert (answer.status, client.asked) == (401, 0)


async def test_pages_hold_every_item_once(client: httpx.AsyncClient) -> None:
    sent = await send(client, *[wav(n) if n % 3 else TEXT for n in range(7)])
    found, cursor = [], None
    for _ in range(3):
        page = await read(client, sent, limit=3, **({"cursor": cursor} if cursor else {}))
        assert page["counts"] == sent["counts"]
        found += page["items"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert [item["index"] for item in found] == list(range(7))
    assert (await read(client, sent, cursor="7"))["items"] == []


@pytest.mark.parametrize(("limit", "n_items"), [(-5, 1), (0, 1), (1, 1), (2, 2), (1000, 3)])
async def test_a_limit_is_taken_as_1_to_100(client: httpx.AsyncClient, limit: int, n_items: int) -> None:
    sent = await send(client, wav(1), wav(2), wav(3))
    assert len((await read(client, sent, limit=limit))["items"]) == n_items


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1 ", "9" * 10, "١"])
async def test_a_cursor_that_was_not_given_out_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    sent = await send(client, WAV)
    answer = await client.get(sent["links"]["self"], params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


async def test_counts_follow_the_jobs(client: httpx.AsyncClient, services: Services) -> None:
    sent = await send(client, *map(wav, range(4)))
    ids = [item["job"]["id"] for item in sent["items"]]
    finish(services.machine, ids[0])
    assert services.machine.start(ids[1], max_attempts=3, lease_s=60)
    await client.post(f"/jobs/{ids[2]}/cancel")
    await client.delete(f"/jobs/{ids[3]}")
    batch = await read(client, sent)
    assert batch["counts"] == BatchCounts(total=4, succeeded=1, running=1, canceled=1, expired=1).model_dump()
    assert [item["status"] for item in batch["items"]] == [200, 202, 200, 410]
    assert batch["items"][0]["job"]["result"]["scores"]["clarity"] == 3.0
    assert batch["items"][3]["problem"]["code"] == "job_expired"
    assert not batch["done"]
    await client.delete(f"/jobs/{ids[1]}")
    assert (await read(client, sent))["done"]


async def test_the_end_is_estimated_from_the_last_job(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await send(client, wav(1)))["estimated_done_at"] is None
    services.queue_status.record_throughput(10.0)
    monkeypatch.setattr(type(services.queue), "n_workers", lambda _queue: 1)
    sent = await send(client, *map(wav, range(2, 5)))
    last = sent["items"][2]["job"]
    assert sent["estimated_done_at"] == last["queue"]["estimated_done_at"]
    for item in sent["items"]:
        assert services.machine.start(item["job"]["id"], max_attempts=3, lease_s=60)
    assert (await read(client, sent))["estimated_done_at"] is not None


async def test_a_foreign_and_an_unknown_batch_are_the_same_404(client: httpx.AsyncClient, redis: Redis) -> None:
    sent = await send(client, WAV)
    [key] = redis.scan_iter(f"apex:batch:open:{sent['id']}")
    redis.rename(key, key.replace(b":open:", b":other:"))
    foreign, unknown = [await client.get(f"/batches/{batch_id}") for batch_id in (sent["id"], "bat_" + "0" * 32)]
    assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
    plain = [re.sub(r'"(request_id|instance)":"[^"]*"', "", answer.text) for answer in (foreign, unknown)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize("batch_id", ["..", "a:b", "x" * 5000, "%00", "ü"])
async def test_no_id_is_too_odd_to_be_unknown(client: httpx.AsyncClient, batch_id: str) -> None:
    assert (await client.get(f"/batches/{batch_id}")).status_code == 404


async def test_a_single_track_can_join_a_batch(client: httpx.AsyncClient) -> None:
    batch = await send(client, wav(1))
    answer = await client.post("/score", files={"file": ("x.wav", wav(2))}, data={"batch_id": batch["id"]})
    raw = await client.post("/score", params={"batch_id": batch["id"]}, content=wav(3), headers=RAW)
    assert [joined.json()["batch_id"] for joined in (answer, raw)] == [batch["id"]] * 2
    found = await read(client, batch)
    assert [item["job"]["id"] for item in found["items"][1:]] == [answer.json()["id"], raw.json()["id"]]
    listed = (await client.get(batch["links"]["jobs"])).json()["items"]
    assert {job["id"] for job in listed} == {item["job"]["id"] for item in found["items"]}


async def test_a_track_cannot_join_a_foreign_or_unknown_batch(
    client: httpx.AsyncClient, app: FastAPI, settings: ApiSettings, redis: Redis
) -> None:
    batch = await send(client, wav(1))
    _, key = KeyStore(redis).create(tenant="other")
    before = left_behind(app)
    async with client_of(create_app(settings, redis=redis)) as stranger:
        stranger.headers["Authorization"] = f"Bearer {key}"
        answers = [
            await stranger.post("/score", params={"batch_id": batch_id}, content=wav(2), headers=RAW)
            for batch_id in (batch["id"], "bat_unknown")
        ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
        assert answer.json()["errors"] == [{"pointer": "#/batch_id", "detail": "There is no such batch."}]
    assert left_behind(app) == before


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


async def test_jobs_of_other_batches_are_not_counted(client: httpx.AsyncClient, services: Services) -> None:
    batch = await send(client, wav(1))
    await send(client, wav(2))
    services.machine.create(Job(id=new_job_id(), storage_key="x"))
    assert (await read(client, batch))["counts"]["total"] == 1


KEY = {"Idempotency-Key": "k-1"}


def digest(body: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"}


async def test_the_same_key_makes_one_batch_and_the_same_answer(client: httpx.AsyncClient, app: FastAPI) -> None:
    body = form(part("files", wav(1), filename="a.wav"), part("files", TEXT))
    first = await client.post("/batches", content=body, headers=FORM | KEY)
    before = left_behind(app)
    again = await client.post("/batches", content=body, headers=FORM | KEY)
    assert (again.status_code, again.content) == (207, first.content)
    assert (again.headers["idempotent-replayed"], again.headers["location"]) == ("true", first.headers["location"])
    assert left_behind(app) == before


@pytest.mark.parametrize(
    "other",
    [
        form(part("files", wav(2))),
        form(part("files", wav(1)), part("files", wav(1))),
        form(part("files", wav(1)), part("batch_external_id", b"x")),
    ],
)
async def test_a_key_belongs_to_one_form(client: httpx.AsyncClient, other: bytes) -> None:
    assert (await client.post("/batches", content=form(part("files", wav(1))), headers=FORM | KEY)).status_code == 207
    answer = await client.post("/batches", content=other, headers=FORM | KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_key_of_a_single_track_is_another_key(client: httpx.AsyncClient) -> None:
    assert (await client.post("/score", content=WAV, headers=RAW | KEY)).status_code == 202
    assert (await client.post("/batches", files=files_of(WAV), headers=KEY)).status_code == 207


async def test_concurrent_requests_with_one_key_make_one_batch(client: httpx.AsyncClient, app: FastAPI) -> None:
    requests = [client.post("/batches", files=files_of(wav(1), wav(2)), headers=KEY) for _ in range(30)]
    answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} <= {207, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 207}) == 1
    services: Services = app.state.services
    assert len(UnfinishedJobs(services.redis).ids()) == 2


async def test_a_batch_that_was_left_half_made_is_completed_by_the_retry(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = JobStateMachine.create, list[str]()

    def create(machine: JobStateMachine, job: Job, **limits: Any) -> None:
        if len(made) == 2:
            raise ConnectionError("gone")
        real(machine, job, **limits)
        made.append(job.id)

    contents = wav(1), TEXT, wav(2), wav(3), wav(4)
    with monkeypatch.context() as patch:
        patch.setattr(JobStateMachine, "create", create)
        answer = await client.post("/batches", files=files_of(*contents), headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    batch = (await client.post("/batches", files=files_of(*contents), headers=KEY)).json()
    assert [item["status"] for item in batch["items"]] == [202, 415, 202, 202, 202]
    assert [item["job"]["id"] for item in batch["items"] if "job" in item][:2] == made
    assert len(UnfinishedJobs(services.redis).ids()) == 4


async def test_a_half_made_batch_is_not_completed_with_other_files(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(machine: JobStateMachine, job: Job, **limits: Any) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(JobStateMachine, "create", create)
        assert (await client.post("/batches", files=files_of(wav(1)), headers=KEY)).status_code == 503
    answer = await client.post("/batches", files=files_of(wav(2)), headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_form_that_is_not_what_its_digest_says_makes_nothing(client: httpx.AsyncClient, app: FastAPI) -> None:
    body = form(part("files", wav(1)))
    answer = await client.post("/batches", content=body, headers=FORM | digest(b"other"))
    assert (answer.status_code, answer.json()["code"]) == (400, "digest_mismatch")
    assert left_behind(app) == []
    assert (await client.post("/batches", content=body, headers=FORM | digest(body))).status_code == 207


async def test_a_repeated_form_with_a_digest_is_answered_unread(client: httpx.AsyncClient, app: FastAPI) -> None:
    body = form(part("files", wav(1)))
    headers = FORM | KEY | digest(body) | {"Content-Length": str(len(body))}
    first = await client.post("/batches", content=body, headers=headers)
    retry = Client(app, [])
    answer = await retry.post("/batches", headers)
    assert (answer.status, answer.json(), retry.asked) == (207, first.json(), 0)


async def test_a_deadline_is_that_of_every_job(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", files=files_of(wav(1), wav(2)), headers={"Cancel-After": "10m"})
    for item in answer.json()["items"]:
        created, deadline = (datetime.fromisoformat(item["job"][name]) for name in ("created_at", "deadline"))
        assert (deadline - created).total_seconds() == 600


async def test_a_preferred_wait_ends_with_the_last_job(client: httpx.AsyncClient, services: Services) -> None:
    sending = client.post("/batches", files=files_of(wav(1), TEXT, wav(2)), headers={"Prefer": "wait=20"})
    waiting = asyncio.create_task(sending)
    while len(UnfinishedJobs(services.redis).ids()) < 2:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    for job_id in UnfinishedJobs(services.redis).ids():
        finish(services.machine, job_id)
    answer = await waiting
    assert time.monotonic() - began < 5
    assert (answer.json()["done"], answer.headers["preference-applied"]) == (True, "wait=20")
    assert [item["status"] for item in answer.json()["items"]] == [200, 415, 200]


async def test_a_wait_that_is_too_short_is_not_called_applied(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", files=files_of(wav(1)), headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["done"]) == (207, False)
    assert "preference-applied" not in answer.headers
    assert answer.headers["retry-after"] == "1"
