"""Owners of jobs: another tenant's job and an unknown job are the same 404, everywhere."""

from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.callers import SCOPES
from app.core.jobs.models import new_job_id
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import expire, found, key_of, queued, running, succeeded

pytestmark = pytest.mark.anyio

ENDPOINTS = {
    "get": ("GET", "/jobs/{}"),
    "wait": ("GET", "/jobs/{}?wait=5"),
    "cancel": ("POST", "/jobs/{}/cancel"),
    "delete": ("DELETE", "/jobs/{}"),
    "events": ("GET", "/jobs/{}/events"),
    "embedding": ("GET", "/jobs/{}/embedding"),
}
STATES = {"queued": queued, "running": running, "succeeded": succeeded}


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


def without_ids(problem: dict[str, Any], job_id: str) -> dict[str, Any]:
    """A problem without the ids of its request and its job."""
    return {**problem, "request_id": None, "instance": problem["instance"].replace(job_id, "")}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("state", [*STATES, "expired", "deleted"])
async def test_anothers_job_is_like_none(
    client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis, endpoint: str, state: str
) -> None:
    job = STATES.get(state, succeeded)(jobs, tenant="alice")
    if state == "expired":
        expire(jobs, job)
    if state == "deleted":
        jobs.purge(job)
    before = jobs.store.get(job.id)
    method, path = ENDPOINTS[endpoint]
    bob = key_of(redis, "bob")
    foreign = await client.request(method, path.format(job.id), headers=bob)
    unknown_id = new_job_id()
    unknown = await client.request(method, path.format(unknown_id), headers=bob)
    assert foreign.status_code == unknown.status_code == 404
    assert without_ids(foreign.json(), job.id) == without_ids(unknown.json(), unknown_id)
    assert {*foreign.headers} == {*unknown.headers}
    assert jobs.store.get(job.id) == before


async def test_a_list_holds_ones_own_jobs_alone_and_a_cursor_is_no_way_around(
    client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis
) -> None:
    mine, _ = [queued(jobs, tenant="alice") for _ in range(2)], [queued(jobs, tenant="bob") for _ in range(3)]
    alice, bob = key_of(redis, "alice"), key_of(redis, "bob")
    page = (await client.get("/jobs", params={"limit": 1}, headers=alice)).json()
    assert page["items"][0]["id"] in {job.id for job in mine}
    answer = await client.get("/jobs", params={"cursor": page["next_cursor"]}, headers=bob)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize(
    ("endpoint", "scope"),
    [
        ("get", "jobs:read"),
        ("wait", "jobs:read"),
        ("events", "jobs:read"),
        ("cancel", "score:write"),
        ("delete", "jobs:delete"),
        ("embedding", "embeddings:read"),
    ],
)
async def test_each_endpoint_asks_for_its_scope(
    client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis, endpoint: str, scope: str
) -> None:
    job = succeeded(jobs, tenant="alice")
    method, path = ENDPOINTS[endpoint]
    others = set(SCOPES) - {scope}
    refused = await client.request(method, path.format(job.id), headers=key_of(redis, "alice", *others))
    assert (refused.status_code, refused.json()["required_scope"]) == (403, scope)
    allowed = await client.request(method, path.format(job.id), headers=key_of(redis, "alice", scope))
    assert allowed.status_code in (200, 204, 404, 409)
    assert (await client.request(method, path.format(job.id))).status_code == 401


async def test_capacity_needs_any_key(client: httpx.AsyncClient, redis: Redis) -> None:
    assert (await client.get("/capacity", headers=key_of(redis, "alice", "jobs:read"))).status_code == 200
    assert (await client.get("/capacity")).status_code == 401


async def test_a_key_in_the_query_opens_nothing(client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis) -> None:
    job = succeeded(jobs, tenant="alice")
    secret = key_of(redis, "alice")["Authorization"].removeprefix("Bearer ")
    for name in ("api_key", "key", "token", "access_token", "X-API-Key"):
        assert (await client.get(f"/jobs/{job.id}/events", params={name: secret})).status_code == 401
    assert found(jobs, job)
