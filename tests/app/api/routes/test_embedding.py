"""`embedding=true`: the vector of a track, for keys that may read it, as long as the job is kept."""

import base64
import struct

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.callers import DEFAULT_SCOPES
from app.core.jobs.state_machine import JobStateMachine
from app.core.json_types import Json
from tests.app.api.asgi import FORM, RAW, WAV, form, part
from tests.app.api.submissions.requests import score
from tests.app.records import MODEL, RESULT, key_of, running
from tests.worker.fakes import EMBEDDING, analysis

pytestmark = pytest.mark.anyio

VALUES = [float(f"{value:.9g}") for value in EMBEDDING]
KEPT: Json = analysis({"clarity": 3.1416}, 3).embedding.to_json()


async def send(client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> httpx.Response:
    return await client.post("/score/raw?embedding=true", content=WAV, headers=RAW | (headers or {}))


async def test_a_job_that_asks_for_its_embedding_leads_to_it(client: httpx.AsyncClient, services: Services) -> None:
    sent = (await send(client)).json()
    assert sent["links"]["embedding"] is None
    score(services, sent["id"], embedding=KEPT)
    job = (await client.get(sent["links"]["self"])).json()
    answer = await client.get(job["links"]["embedding"])
    found = answer.json()
    assert (found["job_id"], found["dimension"], found["n_segments"]) == (job["id"], 3, 3)
    assert found["values"] == VALUES
    assert list(struct.unpack("<3f", base64.b64decode(found["base64"]))) == [float(value) for value in EMBEDDING]
    assert found["provenance"] == KEPT["provenance"]
    assert answer.headers["cache-control"] == "private, max-age=300"
    assert KEPT["float32"] not in str(job)


@pytest.mark.parametrize(
    ("values", "ends", "why"),
    [
        ({}, True, "sent without"),
        ({"with_embedding": True}, False, "not over yet"),
        ({"with_embedding": True}, True, "keeps no embeddings"),  # an older worker
    ],
)
async def test_a_job_without_an_embedding_says_why(
    client: httpx.AsyncClient, services: Services, values: Json, ends: bool, why: str
) -> None:
    run = running(services.machine, **values)
    if ends:
        services.machine.succeed(run, result=RESULT, model=MODEL)
    answer = await client.get(f"/jobs/{run.id}/embedding")
    assert (answer.status_code, why in answer.json()["detail"]) == (404, True)


async def test_an_embedding_asks_for_its_scope_where_it_is_ordered_too(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    usual = key_of(redis, "acme", *DEFAULT_SCOPES)
    refused = await send(client, usual)
    assert (refused.status_code, refused.json()["required_scope"]) == (403, "embeddings:read")
    assert list(services.jobs.list_by_created("acme")) == []
    assert (await send(client, key_of(redis, "acme", *DEFAULT_SCOPES, "embeddings:read"))).status_code == 202
    assert (await client.post("/score/raw", content=WAV, headers=RAW | usual)).status_code == 202


async def test_a_batch_asks_for_the_scope_for_each_of_its_files(client: httpx.AsyncClient, redis: Redis) -> None:
    body = form(part("files", WAV, filename="a.wav"), part("embedding", b"true"))
    answer = await client.post("/batches", content=body, headers=FORM | key_of(redis, "acme", *DEFAULT_SCOPES))
    assert [item["problem"]["code"] for item in answer.json()["items"]] == ["forbidden_scope"]


async def test_a_known_track_has_a_copy_of_its_embedding(client: httpx.AsyncClient, services: Services) -> None:
    first = (await send(client)).json()
    score(services, first["id"], embedding=KEPT)
    second = (await send(client)).json()
    assert second["cached"]
    await client.delete(first["links"]["self"])
    assert (await client.get(second["links"]["embedding"])).json()["values"] == VALUES


async def test_scores_without_an_embedding_answer_no_request_for_one(
    client: httpx.AsyncClient, services: Services
) -> None:
    score(services, (await client.post("/score/raw", content=WAV, headers=RAW)).json()["id"])
    assert (await send(client)).status_code == 202


async def test_what_cannot_be_read_is_an_error_of_the_server(client: httpx.AsyncClient, services: Services) -> None:
    machine: JobStateMachine = services.machine
    run = running(machine, with_embedding=True)
    machine.succeed(run, embedding={"float32": "?"}, result=RESULT, model=MODEL)
    assert (await client.get(f"/jobs/{run.id}/embedding")).status_code == 500
