"""The job that comes of a track: its deadline, its model, its estimated length."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.dependencies import Services
from app.core.jobs.models import Job, JobState
from app.core.jobs.state_machine import JobStateMachine
from tests.app.api.asgi import (
    FORM,
    RAW,
    WAV,
    Client,
    body_messages,
    form,
    part,
)
from tests.app.api.submissions.requests import (
    VERSION,
    code,
    files,
    jobs_of,
    post,
)
from tests.app.records import MODEL

pytestmark = pytest.mark.anyio


async def test_a_deadline_is_that_long_after_acceptance(client: httpx.AsyncClient, services: Services) -> None:
    job = services.jobs.get((await post(client, Cancel_After="10m")).json()["id"])
    assert job
    assert job.deadline == pytest.approx(job.created_at + 600)
    assert (await post(client)).json()["deadline"] is None


async def test_a_model_can_be_asked_for(client: httpx.AsyncClient, services: Services) -> None:
    async def pinned(version: str) -> httpx.Response:
        return await client.post(f"/score?model_version={version}", content=WAV, headers=RAW)

    assert code(await pinned(VERSION)) == (422, "validation_error")
    services.worker_info.publish_model(MODEL)
    refused = await pinned("apex-0.0.0")
    assert refused.json()["errors"] == [{"pointer": "#/model_version", "detail": "The workers run apex-1.0.0."}]
    assert files(services) == jobs_of(services) == []
    assert (await pinned(VERSION)).status_code == 202


async def test_the_length_of_a_track_is_guessed_for_the_queue(client: httpx.AsyncClient, services: Services) -> None:
    job = services.jobs.get((await post(client, WAV + b"\0" * 176_400)).json()["id"])
    assert job
    assert job.estimated_s == pytest.approx(1.0, abs=0.1)


async def test_a_form_may_carry_every_option(client: httpx.AsyncClient, services: Services) -> None:
    services.worker_info.publish_model(MODEL)
    body = form(part("file", WAV), part("external_id", b"x"), part("model_version", b"apex-1.0.0"))
    assert (await client.post("/score", content=body, headers=FORM)).json()["external_id"] == "x"


async def test_a_request_cancelled_while_its_job_is_created_still_returns_the_job(
    app: FastAPI, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = JobStateMachine.create
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(machine: JobStateMachine, job: Job, **limits: Any) -> Any:
        loop.call_soon_threadsafe(began.set)
        time.sleep(0.1)
        return create(machine, job, **limits)

    monkeypatch.setattr(JobStateMachine, "create", slow)
    answering = asyncio.create_task(Client(app, body_messages([WAV])).post("/score", RAW))
    await began.wait()
    answering.cancel()
    answer = await answering
    assert answer.status == 202
    job = services.jobs.get(answer.json()["id"])
    assert job
    assert job.status is JobState.QUEUED
