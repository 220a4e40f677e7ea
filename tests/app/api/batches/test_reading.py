"""`GET /batches/{id}`: pages of items, counts of states, and when it should be done."""

import re

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.api.schemas.batch import BatchCounts
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.queue import Worker, Workers
from tests.app.api.asgi import WAV
from tests.app.api.batches.requests import TEXT, finish, read, send, wav

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("cursor", ["-1", "x", "1 ", "9" * 10, "١"])
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
    monkeypatch.setattr(type(services.queue), "workers", lambda _queue: Workers([Worker()]))
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


@pytest.mark.parametrize("batch_id", ["%2e%2e", "a:b", "x" * 5000, "%00", "ü"])
async def test_a_malformed_id_is_an_unknown_one(client: httpx.AsyncClient, batch_id: str) -> None:
    assert (await client.get(f"/batches/{batch_id}")).status_code == 404


async def test_an_unfinished_batch_says_when_to_poll_again(client: httpx.AsyncClient) -> None:
    open_batch, finished = await send(client, WAV), await send(client, TEXT)
    assert (await client.get(open_batch["links"]["self"])).headers["retry-after"] == "1"
    assert "retry-after" not in (await client.get(finished["links"]["self"])).headers


async def test_jobs_of_other_batches_are_not_counted(client: httpx.AsyncClient, services: Services) -> None:
    batch = await send(client, wav(1))
    await send(client, wav(2))
    services.machine.create(Job(id=new_job_id(), storage_key="x"))
    assert (await read(client, batch))["counts"]["total"] == 1
