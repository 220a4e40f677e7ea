"""Cancel and delete: a job ends when its client asks for it, and leaves what it should."""

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.api.schemas.fields import timestamp
from app.core.jobs.models import RunSignal
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import Problem, problem_object
from app.core.redis.client import text
from tests.app.records import expire, found, queued, running, stored_audio, succeeded
from tests.conftest import audio_files

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


async def test_a_queued_job_is_canceled_at_once_with_its_audio(
    client: httpx.AsyncClient, services: Services, jobs: JobStateMachine
) -> None:
    job = queued(jobs)
    stored_audio(services, job)
    answer = await client.post(f"/jobs/{job.id}/cancel")
    body = answer.json()
    assert (answer.status_code, body["status"], body["status_reason"]) == (200, "canceled", "by_client")
    assert (body["done"], body["queue"]) == (True, None)
    assert audio_files(services.settings.audio_dir) == []
    assert services.queue.rq.job_ids == []
    assert jobs.start(job.id, max_attempts=3, lease_s=60) is None


async def test_a_running_job_is_asked_to_stop(
    client: httpx.AsyncClient, services: Services, jobs: JobStateMachine
) -> None:
    run = running(jobs)
    stored_audio(services, run)
    answer = await client.post(f"/jobs/{run.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert answer.json()["cancel_requested_at"]
    assert answer.headers["retry-after"] == "1"
    assert jobs.report(run, progress={}) is RunSignal.BY_CLIENT
    assert len(audio_files(services.settings.audio_dir)) == 1, "the run still reads it"


async def test_a_second_request_to_stop_changes_nothing(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    first, second = [await client.post(f"/jobs/{run.id}/cancel") for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()


async def test_canceling_again_is_no_error(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    job = queued(jobs)
    first, second = [await client.post(f"/jobs/{job.id}/cancel") for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()


async def test_what_is_over_cannot_be_canceled(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    failed = running(jobs)
    jobs.fail(failed, error=problem_object("audio_silent", "x"))
    for job, status in ((succeeded(jobs), "succeeded"), (failed, "failed")):
        before = found(jobs, job)
        answer = await client.post(f"/jobs/{job.id}/cancel")
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "job_already_finished")
        assert problem["status_now"] == status
        assert found(jobs, job) == before


@pytest.mark.parametrize("make", [queued, running, succeeded])
async def test_a_deleted_job_is_gone_with_all_that_it_owned(
    client: httpx.AsyncClient, services: Services, jobs: JobStateMachine, redis: Redis, make: type
) -> None:
    job = make(jobs)
    stored_audio(services, job)
    answer = await client.delete(f"/jobs/{job.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "?wait=5")):
        gone = await client.request(method, f"/jobs/{job.id}{path}")
        assert (gone.status_code, gone.json()["code"]) == (410, "job_expired")
        assert gone.json()["expired_at"]
    assert audio_files(services.settings.audio_dir) == []
    assert redis.keys(f"*{job.id}*") == [f"apex:gone:{job.id}".encode()]
    assert (await client.get("/jobs")).json()["items"] == []
    assert (await client.get("/capacity")).json()["jobs_running"] == 0


def test_a_job_that_is_deleted_while_it_is_canceled_expired_when_it_was_deleted(
    services: Services, jobs: JobStateMachine
) -> None:
    job = queued(jobs)
    jobs.purge(job)
    with pytest.raises(Problem) as gone:
        services.job_service.cancel(job)
    expired_at = jobs.store.expired_at(job.id, tenant=job.tenant)
    assert (gone.value.kind.code, gone.value.extensions) == ("job_expired", {"expired_at": timestamp(expired_at)})


async def test_a_run_of_a_deleted_job_has_lost_it(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    await client.delete(f"/jobs/{run.id}")
    assert jobs.report(run, progress={}) is RunSignal.LOST
    assert not jobs.succeed(run, result={})
    assert (await client.get(f"/jobs/{run.id}")).status_code == 410


async def test_an_expired_job_is_gone_and_not_unknown(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    job = succeeded(jobs)
    expires_at = (await client.get(f"/jobs/{job.id}")).json()["expires_at"]
    expire(jobs, job)
    answer = await client.get(f"/jobs/{job.id}")
    assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")
    assert answer.json()["expired_at"][:19] == expires_at[:19]


@pytest.mark.parametrize("ended", ["canceled while queued", "succeeded", "made finished"])
async def test_nothing_of_a_finished_job_outlives_its_record(
    services: Services, jobs: JobStateMachine, redis: Redis, ended: str
) -> None:
    if ended == "canceled while queued":
        services.job_service.cancel(job := queued(jobs))
    elif ended == "succeeded":
        job = succeeded(jobs)
    else:
        job = queued(jobs, status="succeeded", finished_at=1.0)
    owned = {text(key): redis.ttl(key) for key in redis.keys(f"*{job.id}*")}
    assert owned.pop(f"apex:gone:{job.id}") > jobs.result_ttl_s
    assert set(owned) == {f"apex:job:{job.id}", f"apex:events:{job.id}"}
    assert len(set(owned.values())) == 1
    assert redis.zcard("apex:jobs:open") == redis.zcard("apex:jobs:waiting") == redis.hlen("apex:jobs:running") == 0
