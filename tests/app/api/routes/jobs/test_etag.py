"""`ETag` and `If-None-Match`: a client that has the current content of a job gets no body."""

from datetime import UTC, datetime

import httpx
import pytest
from redis import Redis
from rq.utils import utcformat

from app.api.dependencies import Services
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import live_worker, queued, report, running, succeeded
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_an_unchanged_job_is_not_sent_again(client: httpx.AsyncClient, jobs: JobStateMachine, form: str) -> None:
    path = f"/jobs/{succeeded(jobs).id}"
    first = await client.get(path)
    again = await client.get(path, headers={"If-None-Match": form.format(first.headers["etag"])})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "cache-control"):
        assert again.headers[name] == first.headers[name]
    assert first.headers["etag"].startswith('"')


@pytest.mark.parametrize("known", ['"other"', "", "etag", '"'])
async def test_a_changed_job_is_sent(client: httpx.AsyncClient, jobs: JobStateMachine, known: str) -> None:
    answer = await client.get(f"/jobs/{succeeded(jobs).id}", headers={"If-None-Match": known})
    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"


async def test_every_change_makes_another_tag(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    tags = []
    for change in (lambda: None, lambda: report(jobs, run, 1), lambda: jobs.cancel(run), lambda: jobs.succeed(run)):
        change()
        tags.append((await client.get(f"/jobs/{run.id}")).headers["etag"])
    assert len(set(tags)) == 4


async def test_a_place_in_a_queue_that_stands_still_is_no_change(
    client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis
) -> None:
    live_worker(redis, beat=str(utcformat(datetime.now(UTC))))
    QueueStatus(jobs.redis, KEYS).record_throughput(1.0)
    running(jobs, estimated_s=500.0)
    path = f"/jobs/{queued(jobs, estimated_s=100.0).id}"
    first = await client.get(path)
    assert first.json()["queue"]["estimated_start_at"]
    again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.headers["retry-after"]
