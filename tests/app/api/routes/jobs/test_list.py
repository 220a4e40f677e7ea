"""`GET /jobs`: pages that do not move while jobs are added and deleted."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.api.listing import MAX_SCANNED
from app.core.jobs.models import Job, JobState
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import expire, queued, running, succeeded
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


async def page(client: httpx.AsyncClient, **query: Any) -> tuple[list[str], str | None]:
    answer = await client.get("/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["items"]], answer.json()["next_cursor"]


async def every_page(client: httpx.AsyncClient, **query: Any) -> list[list[str]]:
    ids, cursor = await page(client, **query)
    pages = [ids]
    while cursor:
        ids, cursor = await page(client, cursor=cursor, **query)
        pages.append(ids)
    return pages


def made(jobs: JobStateMachine, count: int, **values: Any) -> list[str]:
    """Ids of new jobs, the newest first, some of them of the same millisecond."""
    new = [queued(jobs, created_at=float(1000 + number // 3), **values) for number in range(count)]
    return [job.id for job in sorted(new, key=lambda job: (job.created_at, job.id), reverse=True)]


async def test_a_new_tenant_has_no_jobs(client: httpx.AsyncClient) -> None:
    assert (await client.get("/jobs")).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("limit", [1, 20, 50, 100])
async def test_450_jobs_are_listed_newest_first_and_each_once(
    client: httpx.AsyncClient, jobs: JobStateMachine, limit: int
) -> None:
    ids = made(jobs, 450 if limit > 1 else 45)
    pages = await every_page(client, limit=limit)
    assert sum(pages, []) == ids
    assert {len(found) for found in pages[:-1]} == {limit}
    assert pages[-1]


@pytest.mark.parametrize(("limit", "count"), [(0, 1), (-7, 1), (1000, 100), (None, 20)])
async def test_a_limit_is_taken_as_1_to_100(
    client: httpx.AsyncClient, jobs: JobStateMachine, limit: int | None, count: int
) -> None:
    made(jobs, 120)
    ids, _ = await page(client, **({} if limit is None else {"limit": limit}))
    assert len(ids) == count


async def test_an_item_is_what_its_own_path_shows(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    for make in (succeeded, running, queued):
        make(jobs, external_id="x")
    for listed in (await client.get("/jobs")).json()["items"]:
        assert listed == (await client.get(f"/jobs/{listed['id']}")).json()


async def test_jobs_that_come_and_go_between_pages_move_nothing(
    client: httpx.AsyncClient, jobs: JobStateMachine
) -> None:
    ids = made(jobs, 30)
    first, cursor = await page(client, limit=10)
    new = queued(jobs)
    for job_id in (ids[0], ids[9], ids[10]):
        jobs.purge(Job(id=job_id, storage_key=job_id))
    assert cursor
    second, _ = await page(client, limit=10, cursor=cursor)
    assert first == ids[:10]
    assert second == ids[11:21]
    assert (await page(client, limit=1))[0] == [new.id]


async def test_expired_records_are_skipped_and_forgotten(
    client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis
) -> None:
    over = [succeeded(jobs, created_at=float(at)) for at in range(30)]
    for job in over[::2]:
        expire(jobs, job)
    assert sum(await every_page(client, limit=10), []) == [job.id for job in reversed(over[1::2])]
    assert redis.zcard("apex:jobs:of:open") == 15


async def test_who_never_lists_does_not_pile_up_what_expired(jobs: JobStateMachine, redis: Redis) -> None:
    for _ in range(50):
        expire(jobs, succeeded(jobs))
    assert redis.zcard("apex:jobs:of:open") <= 5


async def test_filters_let_through_what_was_asked_for(
    client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis
) -> None:
    for batch_id in ("bat_1", "bat_2"):
        redis.hset(KEYS.batch("open", batch_id), "id", batch_id)
    first = queued(jobs, external_id="a", batch_id="bat_1", created_at=1000.0)
    second = succeeded(jobs, external_id="b", batch_id="bat_1", created_at=2000.5)
    third = running(jobs, external_id="b", batch_id="bat_2", created_at=3000.0)
    for query, expected in (
        ({"status": "queued"}, [first]),
        ({"status": "succeeded"}, [second]),
        ({"status": "failed"}, []),
        ({"external_id": "b"}, [third, second]),
        ({"batch_id": "bat_1"}, [second, first]),
        ({"batch_id": "bat_1", "external_id": "b", "status": "succeeded"}, [second]),
        ({"created_after": rfc3339(1000)}, [third, second]),
        ({"created_before": rfc3339(3000)}, [second, first]),
        ({"created_after": rfc3339(1000), "created_before": rfc3339(3000)}, [second]),
        ({"created_after": "1970-01-01T01:33:20.5+01:00"}, [third]),
    ):
        assert (await page(client, **query))[0] == [job.id for job in expected], query


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"status": "done"}, "#/status"),
        ({"limit": "many"}, "#/limit"),
        ({"created_after": "yesterday"}, "#/created_after"),
        ({"created_before": "2026-01-01T00:00:00"}, "#/created_before"),
        ({"external_id": "x" * 129}, "#/external_id"),
        ({"state": "queued"}, "#/state"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused(
    client: httpx.AsyncClient, query: dict[str, str], pointer: str
) -> None:
    answer = await client.get("/jobs", params=query)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_cursor_keeps_its_filters(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    made(jobs, 5, external_id="x")
    _, cursor = await page(client, limit=2, external_id="x")
    for changed in ({}, {"external_id": "y"}, {"external_id": "x", "status": "queued"}):
        answer = await client.get("/jobs", params={"cursor": cursor, **changed})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")
    assert len((await page(client, limit=3, external_id="x", cursor=cursor))[0]) == 3


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    ["x", "ü", "[[[[", "=" * 10, "A" * 10_000, encoded([]), encoded(["x", "y", "z"]), encoded({"a": 1, "b": 2})]
    + [encoded([float("nan"), "job", "z"]), encoded([1, 2, 3, 4]), encoded("abc"), encoded(None)],
)
async def test_a_cursor_that_is_none_of_ours_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get("/jobs", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


async def test_a_request_looks_at_a_bounded_number_of_records(
    client: httpx.AsyncClient, jobs: JobStateMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.listing.MAX_SCANNED", 100)
    rare = queued(jobs, created_at=1.0, external_id="rare")
    made(jobs, 250)
    pages = await every_page(client, external_id="rare")
    assert pages == [[], [], [rare.id]]
    assert MAX_SCANNED == 1000


async def test_a_status_may_change_between_pages(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    ids = made(jobs, 6)
    first, cursor = await page(client, limit=3, status="queued")
    for job_id in (first[0], ids[3]):
        jobs.start(job_id, max_attempts=3, lease_s=60)
    second, _ = await page(client, limit=3, status=JobState.QUEUED, cursor=cursor)
    assert (first, second) == (ids[:3], ids[4:])


async def test_empty_parameters_count_as_absent(client: httpx.AsyncClient) -> None:
    names = ("status", "external_id", "batch_id", "created_after", "created_before", "limit", "cursor")
    answer = await client.get("/jobs?" + "&".join(f"{name}=" for name in names))
    assert (answer.status_code, answer.json()["items"]) == (200, [])
