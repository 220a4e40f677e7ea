"""`GET /batches`: a tenant's batches, newest first, without a look at their jobs."""

from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.batches.store import SWEPT, Batch, BatchStore, new_batch_id
from app.api.dependencies import Services
from tests.app.api.asgi import WAV
from tests.app.api.batches.requests import TEXT, finish, read, send, wav
from tests.app.records import key_of
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


async def page(client: httpx.AsyncClient, **query: Any) -> tuple[list[str], str | None]:
    answer = await client.get("/batches", params=query)
    assert answer.status_code == 200, answer.text
    return [batch["id"] for batch in answer.json()["items"]], answer.json()["next_cursor"]


async def test_batches_are_listed_newest_first_with_their_counts(client: httpx.AsyncClient) -> None:
    first, second = await send(client, wav(1), TEXT), await send(client, wav(2), batch_external_id="b")
    listed = (await client.get("/batches")).json()["items"]
    assert [batch["id"] for batch in listed] == [second["id"], first["id"]]
    for batch in listed:
        whole = await read(client, batch)
        assert batch["counts"] == whole["counts"]
        assert (batch["items"], batch["next_cursor"]) == ([], "0")
        assert (await read(client, batch, cursor="0"))["items"] == whole["items"]


async def test_pages_hold_every_batch_once(client: httpx.AsyncClient, services: Services) -> None:
    ids = [services.batches.create(Batch(new_batch_id(), "open")).id for _ in range(7)]
    found, cursor = await page(client, limit=3)
    while cursor:
        more, cursor = await page(client, limit=3, cursor=cursor)
        found += more
    assert sorted(found) == sorted(ids)  # some were made in the same millisecond
    assert await page(client, limit=0) == (found[:1], (await page(client, limit=1))[1])


async def test_filters_choose_batches(client: httpx.AsyncClient, services: Services) -> None:
    done, named = await send(client, wav(1)), await send(client, wav(2), batch_external_id="b")
    finish(services.machine, done["items"][0]["job"]["id"])
    assert (await page(client, done="true"))[0] == [done["id"]]
    assert (await page(client, done="false"))[0] == [named["id"]]
    assert (await page(client, batch_external_id="b"))[0] == [named["id"]]
    assert (await page(client, created_before=done["created_at"]))[0] == []
    assert (await page(client, created_after="2020-01-01T00:00:00Z"))[0] == [named["id"], done["id"]]


async def test_a_cursor_goes_with_its_filters(client: httpx.AsyncClient, services: Services) -> None:
    for _ in range(2):
        services.batches.create(Batch(new_batch_id(), "open"))
    _, cursor = await page(client, limit=1)
    for query in ({"cursor": cursor, "done": "true"}, {"cursor": "x"}, {"cursor": (await jobs_cursor(client))}):
        assert (await client.get("/batches", params=query)).json()["code"] == "bad_cursor"
    assert (await client.get("/batches?status=done")).status_code == 422


async def jobs_cursor(client: httpx.AsyncClient) -> str:
    await send(client, wav(1), wav(2))
    return str((await client.get("/jobs?limit=1")).json()["next_cursor"])


async def test_nobody_lists_the_batches_of_others(client: httpx.AsyncClient, redis: Redis) -> None:
    acme, other = key_of(redis, "acme"), key_of(redis, "other")
    files = {"files": ("a.wav", WAV)}
    assert (await client.post("/batches", files=files, headers=acme)).status_code == 207
    assert [len((await client.get("/batches", headers=key)).json()["items"]) for key in (acme, other)] == [1, 0]


async def test_expired_batches_leave_the_list(client: httpx.AsyncClient, services: Services, redis: Redis) -> None:
    batches = [services.batches.create(Batch(new_batch_id(), "open")) for _ in range(3)]
    redis.delete(KEYS.batch("open", batches[1].id))
    assert (await page(client))[0] == [batches[2].id, batches[0].id]
    assert redis.zcard(KEYS.batches("open")) == 2


def test_new_batches_sweep_the_oldest(redis: Redis) -> None:
    store = BatchStore(redis, KEYS, result_ttl_s=60)
    for _ in range(3 * SWEPT):
        redis.delete(KEYS.batch("acme", store.create(Batch(new_batch_id(), "acme")).id))
    assert redis.zcard(KEYS.batches("acme")) == 1
