"""`POST /batches` with URLs: as JSON or as JSON Lines, each with an outcome of its own."""

import csv
import json
from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.models import Job
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import SECRET
from tests.app.conftest import client_of
from tests.app.records import found, key_of
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio

JSONL = {"Content-Type": "application/jsonl"}


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"audio_url_hosts": ("cdn.example",)})


def url(n: int) -> str:
    return f"https://cdn.example/{n}.mp3?signature={SECRET}"


def lines(*items: Any) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


def manifest(n: int) -> bytes:
    return lines(*({"url": url(each), "external_id": f"t-{each}"} for each in range(n)))


@pytest.mark.parametrize("path", ["/batches", "/batches/urls"])
async def test_urls_as_json_make_a_batch(client: httpx.AsyncClient, services: Services, path: str) -> None:
    items = [{"url": url(0), "external_id": "a", "metadata": {"k": "v"}}, {"url": url(1)}]
    body = {"items": items, "batch_external_id": "b-1", "metadata": {"x": "y"}}
    answer = await client.post(path, json=body)
    assert answer.status_code == 207, answer.text
    batch = answer.json()
    assert (batch["batch_external_id"], batch["metadata"]) == ("b-1", {"x": "y"})
    assert batch["counts"]["queued"] == 2
    jobs = [item["job"] for item in batch["items"]]
    assert [job["progress"]["stage"] for job in jobs] == ["fetching"] * 2
    assert [(job["external_id"], job["metadata"]) for job in jobs] == [("a", {"k": "v"}), (None, {})]
    sources = [services.jobs.get(job["id"]) for job in jobs]
    assert [(job.source or {})["url"] for job in sources if job] == [url(0), url(1)]


async def test_a_manifest_of_many_lines_is_answered_with_its_first_page(
    client: httpx.AsyncClient, services: Services
) -> None:
    answer = await client.post("/batches?batch_external_id=b-2", content=manifest(150) + b"\n\n", headers=JSONL)
    assert answer.status_code == 207, answer.text
    batch = answer.json()
    assert (batch["counts"]["total"], len(batch["items"]), batch["batch_external_id"]) == (150, 100, "b-2")
    rest = (await client.get(batch["links"]["self"], params={"cursor": batch["next_cursor"], "limit": 100})).json()
    names = [item["job"]["external_id"] for item in (*batch["items"], *rest["items"])]
    assert names == [f"t-{n}" for n in range(150)]
    assert services.redis.zcard(KEYS.unfetched) == 150


async def test_lines_have_a_path_of_their_own(client: httpx.AsyncClient) -> None:
    answer = await client.post("/batches/lines?batch_external_id=b-3", content=manifest(2), headers=JSONL)
    assert (answer.status_code, answer.json()["batch_external_id"]) == (207, "b-3")
    assert answer.json()["counts"]["queued"] == 2
    refused = await client.post("/batches/lines", json={"items": [{"url": url(0)}]})
    assert (refused.status_code, refused.json()["accepted"][0]) == (415, "application/jsonl")


async def test_a_wrong_item_leaves_the_others_as_they_are(client: httpx.AsyncClient) -> None:
    items = [{"url": url(0)}, {"url": "http://cdn.example/"}, {"nothing": 1}, 7, {"url": url(4), "metadata": {"a": 1}}]
    for content, headers in ((lines(*items) + b"\n{broken", JSONL), (json.dumps({"items": items}).encode(), None)):
        answer = await client.post("/batches/urls", content=content, headers=headers or {**JSONL, "Content-Type": JSON})
        codes = [item.get("problem", {}).get("code") for item in answer.json()["items"]][:5]
        assert codes == [None, "url_forbidden", "validation_error", "validation_error", "validation_error"]


JSON = "application/json"


@pytest.mark.parametrize("path", ["/batches", "/batches/urls"])
async def test_a_refused_item_keeps_the_clients_name_for_it(client: httpx.AsyncClient, path: str) -> None:
    items = [{"external_id": "a", "url": "http://cdn.example/"}, {"external_id": "b"}, {"external_id": "c" * 129}, 7]
    for content, kind in ((lines(*items), "application/jsonl"), (json.dumps({"items": items}).encode(), JSON)):
        batch = (await client.post(path, content=content, headers={"Content-Type": kind})).json()
        later = (await client.get(batch["links"]["self"])).json()
        for answer in (batch, later):
            assert [item.get("external_id") for item in answer["items"]] == ["a", "b", None, None]
            assert {item["problem"]["instance"] for item in answer["items"]} == {path}
            assert all("external_id" not in item["problem"] for item in answer["items"])
        table = (await client.get(f"{batch['links']['self']}/results", headers={"Accept": "text/csv"})).text
        assert [row["external_id"] for row in csv.DictReader(table.splitlines())] == ["a", "b", "", ""]


async def test_an_item_that_finds_no_room_keeps_it_too(settings: ApiSettings, redis: Redis) -> None:
    narrow = create_app(settings.model_copy(update={"max_queued_urls": 2}), redis=redis)
    async with client_of(narrow) as client:
        batch = (await client.post("/batches/urls", content=manifest(4), headers=JSONL)).json()
    refused = [(item["external_id"], item["problem"]["code"]) for item in batch["items"] if "problem" in item]
    assert refused == [("t-2", "queue_full"), ("t-3", "queue_full")]


@pytest.mark.parametrize(
    ("path", "content", "kind", "code"),
    [
        ("/batches", b"", "application/jsonl", "validation_error"),
        ("/batches", b"\n" * 10, "application/x-ndjson", "validation_error"),
        ("/batches", b"{}\n" * 10_001, "application/jsonl", "validation_error"),
        ("/batches", b"{}", JSON, "validation_error"),
        ("/batches", b'{"items": []}', JSON, "validation_error"),
        ("/batches", b'{"items": {}}', JSON, "validation_error"),
        ("/batches", b"[", JSON, "validation_error"),
        ("/batches?metadata=x", b'{"items": [{}]}', JSON, "validation_error"),
        ("/batches?metadata=x", b"{}", "application/jsonl", "validation_error"),
        ("/batches/urls", b"", "text/csv", "unsupported_media_type"),
        ("/batches", b" " * (17 * 2**20), "application/jsonl", "payload_too_large"),
    ],
)
async def test_a_manifest_that_cannot_be_read_is_refused_as_a_whole(
    client: httpx.AsyncClient, services: Services, path: str, content: bytes, kind: str, code: str
) -> None:
    answer = await client.post(path, content=content, headers={"Content-Type": kind})
    assert answer.json()["code"] == code
    assert not services.redis.keys("apex:batch:*")


async def test_a_repeated_manifest_makes_one_batch(client: httpx.AsyncClient, services: Services) -> None:
    headers = JSONL | {"Idempotency-Key": "k-1"}
    first = await client.post("/batches/urls", content=manifest(3), headers=headers)
    again = await client.post("/batches/urls", content=manifest(3), headers=headers)
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert services.redis.zcard(KEYS.unfetched) == 3
    other = await client.post("/batches/urls", content=manifest(4), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_manifest_that_a_key_may_not_send_is_refused_as_a_whole(settings: ApiSettings, redis: Redis) -> None:
    strict = settings.model_copy(update={"require_api_keys": True, "key_jobs_in_flight": 5})
    async with client_of(create_app(strict, redis=redis)) as client:
        key = key_of(redis, "acme")
        assert (await client.post("/batches/urls", content=manifest(6), headers=JSONL | key)).status_code == 429
        assert redis.zcard(KEYS.unfetched) == 0
        headers = JSONL | key | {"Idempotency-Key": "k-1"}
        first = await client.post("/batches/urls", content=manifest(5), headers=headers)
        again = await client.post("/batches/urls", content=manifest(5), headers=headers)
        assert (first.status_code, again.content) == (207, first.content), "its own jobs keep no repetition out"


async def test_items_keep_their_places_where_some_are_refused_on_the_way(
    client: httpx.AsyncClient, services: Services
) -> None:
    items = [{"url": url(n) if n % 7 else "http://cdn.example/"} for n in range(30)]
    batch = (await client.post("/batches/urls", content=lines(*items), headers=JSONL)).json()
    assert [item["index"] for item in batch["items"]] == list(range(30))
    assert [("job" in item) for item in batch["items"]] == [bool(n % 7) for n in range(30)]
    stored = [services.jobs.get(item["job"]["id"]) for item in batch["items"] if "job" in item]
    assert [(job.source or {})["url"] for job in stored if job] == [url(n) for n in range(30) if n % 7]


async def test_items_for_which_there_is_no_room_are_refused_in_their_places(
    settings: ApiSettings, redis: Redis
) -> None:
    app = create_app(settings.model_copy(update={"max_queued_urls": 4}), redis=redis)
    async with client_of(app) as client:
        batch = (await client.post("/batches/urls", content=manifest(7), headers=JSONL)).json()
    assert [item["status"] for item in batch["items"]] == [202] * 4 + [503] * 3
    assert batch["counts"]["rejected"] == 3


async def test_a_batch_that_another_request_adds_to_keeps_all_items(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, joined = services.machine.create_in_order, []

    def joined_meanwhile(jobs: list[Job], **options: Any) -> Any:
        joined.append(services.machine.create(Job(id="job_x", storage_key="", batch_id=jobs[0].batch_id)))
        monkeypatch.setattr(services.machine, "create_in_order", create)
        return create(jobs, **options)

    monkeypatch.setattr(services.machine, "create_in_order", joined_meanwhile)
    batch = (await client.post("/batches/urls", content=manifest(5), headers=JSONL)).json()
    names = [item["job"]["external_id"] for item in batch["items"]]
    assert names == [None, *(f"t-{n}" for n in range(5))][: len(names)]


async def test_a_batch_counts_its_jobs_however_their_fetches_end(client: httpx.AsyncClient, services: Services) -> None:
    batch = (await client.post("/batches/urls", content=manifest(3), headers=JSONL)).json()
    machine = services.machine
    ids = [item["job"]["id"] for item in batch["items"]]
    jobs = [machine.begin_fetch(job_id, tenant="open", max_fetches_of_job=5) for job_id in ids]
    assert jobs[0]
    assert jobs[1]
    machine.fail_fetch(jobs[0], error={"code": "url_status"})
    machine.end_fetch(jobs[1], storage_key="job_x-1", estimated_s=1.0)
    counts = (await client.get(batch["links"]["self"])).json()["counts"]
    assert (counts["failed"], counts["queued"]) == (1, 2)
    assert found(machine, jobs[1]).storage_key == "job_x-1"
