"""Webhooks over HTTP: where they may go, what a job says of its own, what was delivered, sending it again, tests."""

from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.callers import ANONYMOUS_TENANT
from app.core.json_types import Json
from app.core.settings import ApiSettings
from app.core.webhooks.models import Attempt, DeliveryStatus, event_id
from app.core.webhooks.secrets import WebhookSecrets
from tests.app import records
from tests.app.api.asgi import FORM, RAW, WAV, form, part
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio

URL = "https://hooks.example.com/apex?token=x"


@pytest.fixture
def settings(data_dir: Path, redis_url: str) -> ApiSettings:
    return ApiSettings(data_dir=data_dir, redis_url=redis_url, webhook_hosts=("hooks.example.com", "127.0.0.1"))


@pytest.fixture(autouse=True)
def secret(redis: Redis) -> str:
    return WebhookSecrets(redis, KEYS).create(ANONYMOUS_TENANT).key


async def send(client: httpx.AsyncClient, **options: str) -> httpx.Response:
    return await client.post("/score", content=WAV, headers=RAW, params=options)


async def send_batch(client: httpx.AsyncClient, **options: str) -> httpx.Response:
    fields = [part(name, value.encode()) for name, value in options.items()]
    files = [part("files", WAV + bytes([n]), filename="x.wav") for n in range(2)]
    return await client.post("/batches", content=form(*files, *fields), headers=FORM)


def end(services: Services, job_id: str) -> None:
    run = services.machine.start(job_id, max_attempts=3, lease_s=60)
    assert run
    assert services.machine.succeed(run, result=records.RESULT, model=records.MODEL)


def due(services: Services) -> list[str]:
    return [f"{event.type} {event.subject}" for event in services.outbox.claim("me", limit=99).events]


async def test_a_job_says_who_is_told_of_what(client: httpx.AsyncClient, services: Services) -> None:
    job = (await send(client, webhook_url=URL, webhook_events="job.succeeded, job.failed")).json()
    assert (job["webhook_url"], job["webhook_events"]) == (URL, ["job.succeeded", "job.failed"])
    end(services, job["id"])
    assert due(services) == [f"job.succeeded {job['id']}"]


async def test_all_ends_are_told_where_none_is_named(client: httpx.AsyncClient, services: Services) -> None:
    body = form(part("file", WAV, filename="x.wav"), part("webhook_url", URL.encode()))
    job = (await client.post("/score", content=body, headers=FORM)).json()
    assert job["webhook_events"] == ["job.succeeded", "job.failed", "job.canceled"]
    await client.post(f"/jobs/{job['id']}/cancel")
    assert due(services) == [f"job.canceled {job['id']}"]


async def test_a_track_that_was_scored_before_is_told_at_once(client: httpx.AsyncClient, services: Services) -> None:
    services.worker_info.publish_model(records.MODEL)
    end(services, (await send(client)).json()["id"])
    job = (await send(client, webhook_url=URL)).json()
    assert job["cached"]
    assert due(services) == [f"job.succeeded {job['id']}"]


async def test_a_batch_tells_once_that_it_is_complete(client: httpx.AsyncClient, services: Services) -> None:
    batch = (await send_batch(client, webhook_url=URL)).json()
    assert (batch["webhook_url"], batch["webhook_events"]) == (URL, ["batch.completed"])
    ids = [item["job"]["id"] for item in batch["items"]]
    end(services, ids[0])
    assert due(services) == []
    await client.post(f"/jobs/{ids[1]}/cancel")
    assert due(services) == [f"batch.completed {batch['id']}"]


async def test_a_batch_tells_of_its_jobs_where_that_is_asked_for(client: httpx.AsyncClient, services: Services) -> None:
    batch = (await send_batch(client, webhook_url=URL, webhook_events="job.succeeded")).json()
    ids = [item["job"]["id"] for item in batch["items"]]
    for job_id in ids:
        end(services, job_id)
    assert sorted(due(services)) == sorted(f"job.succeeded {job_id}" for job_id in ids)


async def test_a_batch_whose_files_are_all_refused_is_complete_at_once(
    client: httpx.AsyncClient, services: Services
) -> None:
    body = form(part("files", b"text", filename="x.txt"), part("webhook_url", URL.encode()))
    batch = (await client.post("/batches", content=body, headers=FORM)).json()
    assert due(services) == [f"batch.completed {batch['id']}"]


FORBIDDEN = [
    "http://hooks.example.com/",
    "https://other.example.com/",
    "https://hooks.example.com:6379/",
    "https://user:s3cret-value@hooks.example.com/",
    "https://127.0.0.1/",
    "//hooks.example.com/",
    "nonsense",
]


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_a_url_that_is_not_called_is_refused(client: httpx.AsyncClient, services: Services, url: str) -> None:
    for answer in (
        await send(client, webhook_url=url),
        await send_batch(client, webhook_url=url),
        await client.post("/webhooks/test", json={"url": url}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "webhook_forbidden")
        assert url not in answer.text
    assert (await client.get("/jobs")).json()["items"] == []


async def test_nobody_is_told_anything_without_a_secret(client: httpx.AsyncClient, redis: Redis) -> None:
    redis.delete(KEYS.webhook_secrets)
    for answer in (await send(client, webhook_url=URL), await client.post("/webhooks/test", json={"url": URL})):
        assert (answer.status_code, answer.json()["code"]) == (422, "webhook_secret_missing")


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"webhook_url": URL, "webhook_events": "job.started"}, "#/webhook_events/0"),
        ({"webhook_url": URL, "webhook_events": "batch.completed"}, "#/webhook_events/0"),
        ({"webhook_events": "job.failed"}, "#/webhook_events"),
        ({"webhook_url": "https://" + "x" * 2048}, "#/webhook_url"),
    ],
)
async def test_options_that_make_no_sense_are_pointed_at(
    client: httpx.AsyncClient, options: dict[str, str], pointer: str
) -> None:
    answer = await send(client, **options)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_the_same_request_with_another_webhook_is_another_request(client: httpx.AsyncClient) -> None:
    headers = RAW | {"Idempotency-Key": "one"}
    first = await client.post("/score", content=WAV, headers=headers, params={"webhook_url": URL})
    again = await client.post("/score", content=WAV, headers=headers, params={"webhook_url": URL})
    other = await client.post("/score", content=WAV, headers=headers)
    assert (first.status_code, again.content, other.status_code) == (202, first.content, 422)


async def told(client: httpx.AsyncClient, services: Services, **attempt: Any) -> Json:
    """A job that has ended, with one failed attempt to tell so."""
    job: Json = (await send(client, webhook_url=URL)).json()
    end(services, job["id"])
    [event] = services.outbox.claim("me", limit=9).events
    services.outbox.settle(event, Attempt(1.0, 12, **attempt), DeliveryStatus.FAILED)
    return job


async def test_the_deliveries_of_a_job_are_read_and_begun_again(client: httpx.AsyncClient, services: Services) -> None:
    job = await told(client, services, status_code=500, response="sorry")
    [delivery] = (await client.get(f"/jobs/{job['id']}/deliveries")).json()["items"]
    assert (delivery["id"], delivery["type"], delivery["status"]) == (event_id(job["id"]), "job.succeeded", "failed")
    [attempt] = delivery["attempts"]
    assert (attempt["status_code"], attempt["response"], attempt["duration_ms"]) == (500, "sorry", 12)
    again = await client.post(f"/jobs/{job['id']}/deliveries/{delivery['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    assert due(services) == [f"job.succeeded {job['id']}"]


async def test_the_deliveries_of_a_batch_are_read_and_begun_again(
    client: httpx.AsyncClient, services: Services
) -> None:
    batch = (await send_batch(client, webhook_url=URL)).json()
    for item in batch["items"]:
        await client.delete(f"/jobs/{item['job']['id']}")
    assert due(services) == [f"batch.completed {batch['id']}"]
    [delivery] = (await client.get(f"/batches/{batch['id']}/deliveries")).json()["items"]
    answer = await client.post(f"/batches/{batch['id']}/deliveries/{delivery['id']}/redeliver")
    assert answer.status_code == 202
    assert due(services) == [f"batch.completed {batch['id']}"]


async def test_nothing_is_kept_of_what_a_deleted_job_told(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    redis.config_set("rdbcompression", "no")
    job = await told(client, services, status_code=500, response="answer-needle")
    await client.post(f"/jobs/{job['id']}/deliveries/{event_id(job['id'])}/redeliver")
    assert (await client.delete(f"/jobs/{job['id']}")).status_code == 204
    redis.config_set("rdbcompression", "yes")
    stored = b"".join(key + cast(bytes, redis.dump(key)) for key in cast(list[bytes], redis.keys()))
    for needle in (b"answer-needle", b"token=x", event_id(job["id"]).encode()):
        assert needle not in stored


async def test_a_job_that_tells_nobody_has_no_deliveries(client: httpx.AsyncClient, services: Services) -> None:
    job_id = (await send(client)).json()["id"]
    end(services, job_id)
    assert (await client.get(f"/jobs/{job_id}/deliveries")).json() == {"items": []}
    for delivery in (event_id(job_id), "evt_other", "x:y"):
        answer = await client.post(f"/jobs/{job_id}/deliveries/{delivery}/redeliver")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_test_is_posted_and_its_outcome_is_read(client: httpx.AsyncClient, services: Services) -> None:
    answer = await client.post("/webhooks/test", json={"url": URL})
    assert (answer.status_code, answer.json()["type"]) == (202, "webhook.test")
    [event] = services.outbox.claim("me", limit=9).events
    services.outbox.settle(event, Attempt(1.0, 12, error="unreachable"), DeliveryStatus.FAILED)
    read = (await client.get(answer.headers["location"])).json()
    assert (read["status"], read["attempts"][0]["error"]) == ("failed", "unreachable")


async def test_nothing_of_another_tenant_is_shown_or_sent(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    job = await told(client, services)
    test_at = (await client.post("/webhooks/test", json={"url": URL})).headers["location"]
    other = records.key_of(redis, "other")
    path = f"/jobs/{job['id']}/deliveries"
    for answer in (
        await client.get(path, headers=other),
        await client.post(f"{path}/{event_id(job['id'])}/redeliver", headers=other),
        await client.get(test_at, headers=other),
    ):
        assert answer.status_code == 404
    reader = records.key_of(redis, "open", "jobs:read")
    assert (await client.get(path, headers=reader)).status_code == 200
    for posted in ("/webhooks/test", f"{path}/{event_id(job['id'])}/redeliver"):
        assert (await client.post(posted, headers=reader, json={"url": URL})).status_code == 403


async def test_readiness_warns_while_nobody_sends_webhooks(client: httpx.AsyncClient, services: Services) -> None:
    assert (await client.get("/readyz")).json()["checks"]["webhooks"]["status"] == "warning"
    services.outbox.claim("me", limit=1)
    assert (await client.get("/readyz")).json()["checks"]["webhooks"]["status"] == "ok"


async def test_a_service_that_allows_no_host_sends_no_webhook(data_dir: Path, redis: Redis, redis_url: str) -> None:
    from app.main import create_app
    from tests.app.conftest import client_of

    async with client_of(create_app(ApiSettings(data_dir=data_dir, redis_url=redis_url), redis=redis)) as client:
        answer = await send(client, webhook_url=URL)
        assert (answer.status_code, answer.json()["code"]) == (422, "webhook_forbidden")
        assert "no webhooks" in answer.json()["detail"]
