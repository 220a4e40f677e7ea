"""`queue`, `Retry-After` and `GET /capacity`: where a job is in the queue, when it should start, when to poll again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError
from rq.utils import utcformat

from app.api.dependencies import Services
from app.core.jobs.models import Job
from app.core.jobs.queue import ScoreQueue, Workers
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import live_worker, queued, running
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


@pytest.fixture
def worker(redis: Redis) -> None:
    live_worker(redis, beat=str(utcformat(datetime.now(UTC))))


async def read(client: httpx.AsyncClient, job: Job) -> tuple[Any, dict[str, str]]:
    answer = await client.get(f"/jobs/{job.id}")
    return answer.json()["queue"], dict(answer.headers)


def parsed(time: str) -> datetime:
    return datetime.fromisoformat(time)


async def test_a_queued_job_knows_its_place_and_when_its_turn_comes(
    client: httpx.AsyncClient, jobs: JobStateMachine, worker: None
) -> None:
    QueueStatus(jobs.redis, KEYS).record_throughput(20.0)
    run = running(jobs, estimated_s=200.0)
    tracks = [queued(jobs, estimated_s=100.0) for _ in range(3)]
    place, headers = await read(client, tracks[2])
    assert (place["position"], place["audio_seconds_ahead"]) == (3, 200.0)
    assert run.started_at
    start = datetime.fromtimestamp(run.started_at + (200 + 200) / 20, UTC)
    assert timedelta(0) <= parsed(place["estimated_start_at"]) - start <= timedelta(seconds=1)
    own = parsed(place["estimated_done_at"]) - parsed(place["estimated_start_at"])
    assert timedelta(seconds=4) <= own <= timedelta(seconds=6)
    assert headers["retry-after"] == "5"
    assert headers["cache-control"] == "no-store"


async def test_only_a_queued_job_has_a_place(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    job = queued(jobs)
    assert (await read(client, job))[0]["position"] == 1
    jobs.start(job.id, max_attempts=3, lease_s=60)
    assert (await read(client, job))[0] is None


async def test_a_requeued_job_is_first_and_delays_no_other_twice(
    client: httpx.AsyncClient, jobs: JobStateMachine
) -> None:
    run = running(jobs, estimated_s=100.0)
    behind = queued(jobs, estimated_s=100.0)
    jobs.requeue(run)
    assert (await read(client, run))[0]["position"] == 1
    assert (await read(client, behind))[0]["audio_seconds_ahead"] == 100.0


async def test_nothing_is_estimated_from_nothing(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    tracks = [queued(jobs, estimated_s=100.0) for _ in range(20)]
    for track, pace_s in ((tracks[0], "1"), (tracks[6], "7"), (tracks[19], "15")):
        place, headers = await read(client, track)
        assert (place["estimated_start_at"], place["estimated_done_at"]) == (None, None)
        assert headers["retry-after"] == pace_s


async def test_capacity_shows_what_waits_and_how_long_a_new_track_would_wait(
    client: httpx.AsyncClient, jobs: JobStateMachine, worker: None
) -> None:
    QueueStatus(jobs.redis, KEYS).record_throughput(20.0)
    running(jobs, estimated_s=200.0)
    for _ in range(2):
        queued(jobs, estimated_s=100.0)
    answer = await client.get("/capacity")
    capacity = answer.json()
    wait_s = capacity.pop("estimated_wait_s")
    assert 18 < wait_s <= 20
    assert capacity == {
        "object": "capacity",
        "queue": {"jobs": 2, "audio_seconds": 200.0},
        "jobs_running": 1,
        "workers_alive": 1,
        "workers_paused": 0,
        "models": [],
        "audio_seconds_per_second": 20.0,
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_a_worker_that_pauses_is_counted_and_shortens_no_wait(
    client: httpx.AsyncClient, jobs: JobStateMachine, redis: Redis
) -> None:
    QueueStatus(jobs.redis, KEYS).record_throughput(20.0)
    live_worker(redis, beat=str(utcformat(datetime.now(UTC))), state="suspended")
    capacity = (await client.get("/capacity")).json()
    assert (capacity["workers_alive"], capacity["workers_paused"], capacity["estimated_wait_s"]) == (1, 1, None)


async def test_an_idle_service_has_no_queue_and_no_guess(client: httpx.AsyncClient) -> None:
    capacity = (await client.get("/capacity")).json()
    assert capacity["queue"] == {"jobs": 0, "audio_seconds": 0.0}
    assert (capacity["workers_alive"], capacity["estimated_wait_s"]) == (0, None)


async def test_a_response_without_a_queue_position_is_better_than_none(
    client: httpx.AsyncClient, jobs: JobStateMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_queue: ScoreQueue) -> Workers:
        raise ConnectionError

    monkeypatch.setattr(ScoreQueue, "workers", refuse)
    answer = await client.get(f"/jobs/{queued(jobs).id}")
    assert (answer.status_code, answer.json()["queue"], answer.headers["retry-after"]) == (200, None, "1")
