"""Idempotency keys of `POST /batches`: a repeated form makes one batch, and completes one that was left incomplete."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.exceptions import ConnectionError

from app.api.dependencies import Services
from app.core.jobs.models import Job
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from tests.app.api.asgi import FORM, RAW, WAV, Client, digest, form, part
from tests.app.api.batches.requests import TEXT, files_of, left_behind, wav
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio
KEY = {"Idempotency-Key": "k-1"}


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
    assert len(UnfinishedJobs(services.redis, KEYS).ids()) == 2


async def test_a_batch_that_was_left_half_made_is_completed_by_the_retry(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = JobStateMachine.create, list[str]()

    def create(machine: JobStateMachine, job: Job, **limits: Any) -> Any:
        if len(made) == 2:
            raise ConnectionError("gone")
        made.append(job.id)
        return real(machine, job, **limits)

    contents = wav(1), TEXT, wav(2), wav(3), wav(4)
    with monkeypatch.context() as patch:
        patch.setattr(JobStateMachine, "create", create)
        answer = await client.post("/batches", files=files_of(*contents), headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    batch = (await client.post("/batches", files=files_of(*contents), headers=KEY)).json()
    assert [item["status"] for item in batch["items"]] == [202, 415, 202, 202, 202]
    assert [item["job"]["id"] for item in batch["items"] if "job" in item][:2] == made
    assert len(UnfinishedJobs(services.redis, KEYS).ids()) == 4


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
