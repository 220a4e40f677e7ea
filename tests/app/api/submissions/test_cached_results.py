"""A track that was scored before: its job is finished at once."""

import httpx
import pytest

from app.api.dependencies import Services
from tests.app.api.asgi import (
    RAW,
    WAV,
)
from tests.app.api.submissions.requests import OTHER_WAV, files, post, repeat, score
from tests.app.records import MODEL, SHOWN

pytestmark = pytest.mark.anyio


async def test_a_track_that_was_scored_before_is_answered_at_once(
    client: httpx.AsyncClient, services: Services
) -> None:
    known = score(services, (await post(client)).json()["id"])
    answer = await client.post("/score?external_id=again", content=WAV, headers=RAW)
    job = answer.json()
    assert (answer.status_code, job["status"], job["cached"], job["done"]) == (200, "succeeded", True, True)
    assert answer.headers["location"] == f"/jobs/{job['id']}" != f"/jobs/{known.id}"
    assert (job["result"], job["model"]["version"]) == (SHOWN, MODEL["version"])
    assert (job["external_id"], job["audio"]["duration_s"]) == ("again", 3.0)
    assert files(services) == []
    assert (await client.get(answer.headers["location"])).json() == job
    assert job["id"] not in services.queue.rq.job_ids


async def test_a_scored_track_is_scored_again_by_another_model(client: httpx.AsyncClient, services: Services) -> None:
    score(services, (await post(client)).json()["id"])
    services.worker_info.publish_model(MODEL | {"version": "apex-2.0.0"})
    assert (await post(client)).status_code == 202


async def test_another_track_has_no_cached_scores(client: httpx.AsyncClient, services: Services) -> None:
    score(services, (await post(client)).json()["id"])
    assert (await post(client, OTHER_WAV)).status_code == 202


async def test_a_cached_result_is_stored_under_its_key_too(client: httpx.AsyncClient, services: Services) -> None:
    score(services, (await post(client)).json()["id"])
    first, second = await repeat(client), await repeat(client)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
