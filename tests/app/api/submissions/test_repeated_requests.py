"""Idempotency keys of `POST /score`: a repeated request gets the first response, and one job is made."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from app.api.dependencies import Services
from tests.app.api.asgi import (
    FORM,
    RAW,
    WAV,
    Client,
    body_messages,
    check_problem,
    track_form,
)
from tests.app.api.submissions.requests import (
    KEY,
    OTHER_WAV,
    Paused,
    asked,
    code,
    files,
    jobs_of,
    post,
    repeat,
)

pytestmark = pytest.mark.anyio


async def test_a_repeated_request_gets_the_first_answer_byte_for_byte(
    client: httpx.AsyncClient, services: Services
) -> None:
    first, second = await repeat(client), await repeat(client)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert jobs_of(services) == files(services) == [first.json()["id"]]


async def test_the_first_answer_is_repeated_even_when_the_job_has_moved_on(
    client: httpx.AsyncClient, services: Services
) -> None:
    first = await repeat(client)
    services.machine.start(first.json()["id"], max_attempts=3, lease_s=60)
    assert (await repeat(client)).content == first.content


async def test_with_and_without_quotes_it_is_the_same_key(client: httpx.AsyncClient) -> None:
    answers = [await post(client, Idempotency_Key=key) for key in ("abc", '"abc"', "abcd")]
    ids = [answer.json()["id"] for answer in answers]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(("query", "body"), [("", OTHER_WAV), ("?external_id=x", WAV)])
async def test_another_track_or_other_options_under_the_same_key_are_refused(
    client: httpx.AsyncClient, services: Services, query: str, body: bytes
) -> None:
    first = await repeat(client)
    answer = await client.post(f"/score{query}", content=body, headers=RAW | KEY)
    assert code(answer) == (422, "idempotency_key_reused")
    assert jobs_of(services) == files(services) == [first.json()["id"]]


async def test_a_form_and_a_raw_body_of_the_same_track_are_the_same_request(client: httpx.AsyncClient) -> None:
    first = await repeat(client)
    second = await client.post("/score", content=track_form(), headers=FORM | KEY)
    assert second.content == first.content


async def test_a_failed_request_leaves_its_key_for_a_corrected_one(
    client: httpx.AsyncClient, services: Services
) -> None:
    assert code(await repeat(client, b"<html>" + b"x" * 100)) == (415, "unsupported_media_type")
    answer = await repeat(client)
    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers
    assert len(jobs_of(services)) == 1


async def test_while_the_first_request_is_at_work_others_are_refused_with_a_retry_after(
    app: FastAPI, services: Services
) -> None:
    first = Paused(app, WAV)
    answering = asyncio.create_task(first.post("/score", RAW | KEY))
    await first.pausing.wait()
    refused, n_asked = await asked(app, RAW | KEY)
    check_problem(409, refused.headers["content-type"], refused.json())
    assert (refused.json()["code"], refused.headers["retry-after"], n_asked) == ("idempotency_in_flight", "1", 0)
    assert "job_id" not in refused.json()
    first.go_on.set()
    assert (await answering).status == 202
    again, _ = await asked(app, RAW | KEY)
    assert (again.status, len(jobs_of(services))) == (202, 1)


async def test_a_client_that_leaves_gives_its_key_back(app: FastAPI, services: Services) -> None:
    await Client(app, body_messages([WAV], end=False)).post("/score", RAW | KEY)
    answer, _ = await asked(app, RAW | KEY)
    assert (answer.status, len(jobs_of(services))) == (202, 1)


async def test_a_hundred_at_once_make_one_job(client: httpx.AsyncClient, services: Services) -> None:
    answers = await asyncio.gather(*(repeat(client) for _ in range(100)))
    accepted = {answer.content for answer in answers if answer.status_code == 202}
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len(accepted) == len(jobs_of(services)) == len(files(services)) == 1


async def test_deleting_a_job_deletes_its_stored_answer(client: httpx.AsyncClient, services: Services) -> None:
    first = (await repeat(client)).json()["id"]
    services.job_service.purge(services.jobs.get(first) or pytest.fail("no job"))
    assert services.redis.keys("apex:idempotency:*") == []
    assert (await repeat(client)).json()["id"] != first


async def test_without_a_key_the_same_request_makes_another_job(client: httpx.AsyncClient) -> None:
    assert (await post(client)).json()["id"] != (await post(client)).json()["id"]
