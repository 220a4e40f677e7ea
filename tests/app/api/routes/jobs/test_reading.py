"""`GET /jobs/{id}`: a record as its client reads it."""

import re

import httpx
import pytest

from app.api.dependencies import Services
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import problem_object
from model.domain import SCORE_RANGES, TASK_SCORES

pytestmark = pytest.mark.anyio

IDENTITY = {
    "name": "apex",
    "version": "apex-1.0.0",
    "trained": True,
    "checkpoint_sha256": "5f8e",
    "encoder": "m-a-p/MERT-v1-95M",
    "preprocessing": "mono-24k-30s-v1",
    "training_unit": "song",
    "engine": "torch",
    "device": "cpu",
    "precision": "fp32",
    "precision_deviation": {},
}


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


def running(jobs: JobStateMachine) -> Job:
    job_id = new_job_id()
    jobs.create(Job(id=job_id, storage_key=job_id, audio={"sha256": "ab", "bytes": 3, "container": "wav"}))
    run = jobs.start(job_id, max_attempts=3, lease_s=60)
    assert run
    return run


@pytest.mark.parametrize("job_id", ["job_unknown", "%2e%2e", "job:1", "x" * 5000, "%00", "ü"])
async def test_an_unknown_job_is_not_found(client: httpx.AsyncClient, job_id: str) -> None:
    answer = await client.get(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_running_job_shows_how_far_it_is(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    jobs.report(run, progress={"stage": "embedding", "segments_done": 2, "segments_total": 7})
    answer = await client.get(f"/jobs/{run.id}")
    job = answer.json()
    assert (job["status"], job["done"], job["attempt"]) == ("running", False, 1)
    assert job["progress"] == {"stage": "embedding", "segments_done": 2, "segments_total": 7, "ratio": 0.286}
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("1", "no-store")


async def test_a_job_that_waits_for_another_run_has_done_nothing(
    client: httpx.AsyncClient, jobs: JobStateMachine
) -> None:
    run = running(jobs)
    jobs.report(run, progress={"stage": "embedding", "segments_done": 2, "segments_total": 7})
    jobs.requeue(run)
    job = (await client.get(f"/jobs/{run.id}")).json()
    assert (job["status"], job["attempt"]) == ("queued", 1)
    assert job["progress"] == {"stage": "queued", "segments_done": 0, "segments_total": 7, "ratio": 0.0}


@pytest.mark.parametrize("task", TASK_SCORES)
async def test_a_job_that_succeeded_has_every_score_of_its_model(
    client: httpx.AsyncClient, jobs: JobStateMachine, task: str
) -> None:
    run = running(jobs)
    names = TASK_SCORES[task]
    result = {"scores": dict.fromkeys(names, 3.1416), "ranges": {name: SCORE_RANGES[name] for name in names}}
    progress = {"stage": "scoring", "segments_done": 7, "segments_total": 7}
    timings = {"queue_s": 0.1, "decode_s": 0.2, "inference_s": 0.3, "total_s": 0.6}
    jobs.succeed(run, result=result, progress=progress, model=IDENTITY, timings=timings)
    answer = await client.get(f"/jobs/{run.id}")
    job = answer.json()
    assert (job["status"], job["done"], job["error"]) == ("succeeded", True, None)
    assert job["result"]["scores"] == result["scores"]
    assert list(job["result"]["ranges"]) == list(names)
    assert job["model"] == IDENTITY
    assert job["timings"] == {"upload_s": None, **timings}
    assert job["progress"]["ratio"] == 1.0
    assert answer.headers["cache-control"] == "private, max-age=300"
    assert "retry-after" not in answer.headers
    assert answer.content == (await client.get(f"/jobs/{run.id}")).content


async def test_a_job_that_failed_carries_a_problem(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    error = problem_object("audio_too_short", "The track is shorter than 1 s.", attempts=1, request_id="r-1")
    jobs.fail(run, error=error)
    answer = await client.get(f"/jobs/{run.id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json()["error"] == error


async def test_times_are_utc_with_milliseconds(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    jobs.fail(run, error=problem_object("audio_silent", "x"))
    job = (await client.get(f"/jobs/{run.id}")).json()
    for name in ("created_at", "started_at", "finished_at", "expires_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job[name])
    assert job["created_at"] <= job["started_at"] <= job["finished_at"] < job["expires_at"]
