"""`POST /score` with a `batch_id`: a track joins a batch of its own tenant."""

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import RAW
from tests.app.api.batches.requests import left_behind, read, send, wav
from tests.app.conftest import client_of
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


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
    _, key = KeyStore(redis, KEYS).create(tenant="other")
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
