"""`Prefer: wait` on `POST /batches`: the response comes with the end of the last job."""

import asyncio

import httpx
import pytest

from app.api.dependencies import Services
from app.core.jobs.unfinished import UnfinishedJobs
from tests.app.api.batches.requests import TEXT, files_of, finish, wav
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


async def test_a_preferred_wait_ends_with_the_last_job(client: httpx.AsyncClient, services: Services) -> None:
    sending = client.post("/batches", files=files_of(wav(1), TEXT, wav(2)), headers={"Prefer": "wait=20"})
    waiting = asyncio.create_task(sending)
    while len(UnfinishedJobs(services.redis, KEYS).ids()) < 2:
        await asyncio.sleep(0.01)
    for job_id in UnfinishedJobs(services.redis, KEYS).ids():
        finish(services.machine, job_id)
    answer = await asyncio.wait_for(waiting, 15)
    assert (answer.json()["done"], answer.headers["preference-applied"]) == (True, "wait=20")
    assert [item["status"] for item in answer.json()["items"]] == [200, 415, 200]


async def test_a_wait_that_is_too_short_is_not_called_applied(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches", files=files_of(wav(1)), headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["done"]) == (207, False)
    assert "preference-applied" not in answer.headers
    assert answer.headers["retry-after"] == "1"
