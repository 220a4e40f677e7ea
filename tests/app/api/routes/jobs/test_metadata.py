"""`GET /jobs?metadata=key:value`: jobs are found by the keys that the operator names, without a look at the others."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.json_types import Json
from app.core.redis.keys import RedisKeys
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.records import queued
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio

INDEXED = ("album", "label")


@pytest.fixture
def app(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"indexed_metadata": INDEXED}), redis=redis)


@pytest.fixture
def made(services: Services) -> Callable[..., str]:
    def make(**values: Any) -> str:
        job = Job(id=new_job_id(), storage_key="x", **values)
        return services.machine.create(job, indexed_metadata=INDEXED)[0].id

    return make


async def found(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get("/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["items"]]


async def test_jobs_are_found_by_a_declared_key_newest_first(
    client: httpx.AsyncClient, made: Callable[..., str]
) -> None:
    first, other, second = (made(metadata={"album": album}) for album in ("a:b", "c", "a:b"))
    made(metadata={"label": "a:b"})
    assert await found(client, metadata="album:a:b") == [second, first]
    assert await found(client, metadata="album:c") == [other]
    assert await found(client, metadata="album:nothing") == []


async def test_filters_are_joined(client: httpx.AsyncClient, made: Callable[..., str]) -> None:
    both = made(metadata={"album": "a", "label": "l"}, external_id="x")
    made(metadata={"album": "a", "label": "other"}, external_id="x")
    made(metadata={"album": "a", "label": "l"}, external_id="y")
    assert await found(client, metadata=["album:a", "label:l"], external_id="x", status="queued") == [both]


async def test_pages_of_such_a_list_go_on_by_cursor(client: httpx.AsyncClient, made: Callable[..., str]) -> None:
    ids = [made(metadata={"album": "a"}) for _ in range(3)]
    first = (await client.get("/jobs?metadata=album:a&limit=2")).json()
    assert await found(client, metadata="album:a", cursor=first["next_cursor"]) == ids[:1]
    answer = await client.get("/jobs", params={"metadata": "album:b", "cursor": first["next_cursor"]})
    assert answer.json()["code"] == "bad_cursor"


@pytest.mark.parametrize("filter", ["artist:x", "album", ":", "x" * 600])
async def test_a_key_that_is_not_declared_is_refused(client: httpx.AsyncClient, filter: str) -> None:
    answer = await client.get("/jobs", params={"metadata": filter})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_only_matching_records_are_read(
    client: httpx.AsyncClient, made: Callable[..., str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = made(metadata={"album": "a"})
    for _ in range(30):
        queued(services.machine)
    read, get_fields = list[str](), services.jobs.get_fields

    def noted(_: object, ids: Iterable[str], names: Sequence[str]) -> list[Json | None]:
        read.extend(ids)
        return get_fields(read, names)

    monkeypatch.setattr(type(services.jobs), "get_fields", noted)
    assert await found(client, metadata="album:a") == [wanted]
    assert read == [wanted]


async def test_a_deleted_job_is_in_no_index(client: httpx.AsyncClient, made: Callable[..., str], redis: Redis) -> None:
    job_id = made(metadata={"album": "a"})
    assert (await client.delete(f"/jobs/{job_id}")).status_code == 204
    assert redis.keys("apex:jobs:with:*") == []


async def test_expired_jobs_leave_the_index(client: httpx.AsyncClient, made: Callable[..., str], redis: Redis) -> None:
    index = KEYS.by_metadata("open", "album", "a")
    for _ in range(2):
        redis.delete(KEYS.record(made(metadata={"album": "a"})))
    assert await found(client, metadata="album:a") == []
    assert redis.zcard(index) == 0
    made(metadata={"album": "a"})
    assert redis.ttl(index) > 30 * 24 * 3600, "an index that nothing is added to goes away"


async def test_a_service_without_declared_keys_keeps_no_index(machine: JobStateMachine, redis: Redis) -> None:
    queued(machine, metadata={"album": "a"})
    assert redis.keys("apex:jobs:with:*") == []


def test_names_of_indexes_do_not_show_what_a_client_wrote() -> None:
    assert "secret" not in RedisKeys("apex").by_metadata("acme", "album", "secret")
