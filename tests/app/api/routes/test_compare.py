"""`POST /compare`: whose jobs are ranked, and which bodies are refused."""

import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.dependencies import Services
from app.api.json_body import MAX_JSON_BYTES
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from model.domain import SCORE_RANGES
from tests.app.api.asgi import Client

pytestmark = pytest.mark.anyio

MODEL = {"name": "apex", "version": "apex-1", "trained": True}
CRITERION = {"score_streams": 0.5, "musicality": 0.5}


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


def scored(jobs: JobStateMachine, value: float = 2.0, *, tenant: str = "open") -> str:
    job_id = new_job_id()
    jobs.create(Job(id=job_id, storage_key=job_id, tenant=tenant))
    run = jobs.start(job_id, max_attempts=3, lease_s=60)
    assert run
    result = {"scores": dict.fromkeys(SCORE_RANGES, value), "ranges": SCORE_RANGES}
    assert jobs.succeed(run, result=result, model=MODEL)
    return job_id


async def compared(client: httpx.AsyncClient, job_ids: list[str], criterion: Any = CRITERION) -> httpx.Response:
    return await client.post("/compare", json={"job_ids": job_ids, "criterion": criterion})


async def test_finished_jobs_are_ranked(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    worse, better = scored(jobs, 2.0), scored(jobs, 3.0)
    answer = await compared(client, [worse, better])
    comparison = answer.json()
    assert answer.status_code == 200
    assert comparison["object"] == "comparison"
    assert [(entry["rank"], entry["job_id"]) for entry in comparison["ranking"]] == [(1, better), (2, worse)]
    [delta] = comparison["deltas"]
    assert delta == {"a": better, "b": worse, "score_streams": 1.0, "musicality": 1.0, "within_noise": []}
    assert (comparison["criterion"], comparison["model_version"]) == (CRITERION, "apex-1")
    assert "trained on AI-generated music" in comparison["basis"]


async def test_a_foreign_and_an_unknown_job_are_the_same_404(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    mine = scored(jobs)
    answers = [await compared(client, [mine, other]) for other in (scored(jobs, tenant="other"), new_job_id())]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.json()["errors"] == [{"pointer": "#/job_ids/1", "detail": "There is no such job."}]
    bodies = [re.sub(r'"request_id":"[^"]*"', "", answer.text) for answer in answers]
    assert bodies[0] == bodies[1]


async def test_a_deleted_job_is_410(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    gone = scored(jobs)
    record = jobs.store.get(gone)
    assert record
    jobs.purge(record)
    answer = await compared(client, [gone, scored(jobs)])
    assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")


async def test_an_unfinished_job_is_named_with_409(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    waiting = new_job_id()
    jobs.create(Job(id=waiting, storage_key=waiting))
    answer = await compared(client, [scored(jobs), waiting])
    assert (answer.status_code, answer.json()["code"]) == (409, "jobs_not_comparable")
    assert answer.json()["jobs"] == [{"job_id": waiting, "detail": "The job is queued."}]


BAD: dict[str, tuple[Any, str]] = {
    "no criterion": ({"job_ids": ["a", "b"]}, "#/criterion"),
    "an empty criterion": ({"job_ids": ["a", "b"], "criterion": {}}, "#/criterion"),
    "an unknown score": ({"job_ids": ["a", "b"], "criterion": {"loudness": 1}}, "#/criterion/loudness"),
    "no weight": ({"job_ids": ["a", "b"], "criterion": {"clarity": 0}}, "#/criterion/clarity"),
    "a negative weight": ({"job_ids": ["a", "b"], "criterion": {"clarity": -1}}, "#/criterion/clarity"),
    "an infinite weight": ({"job_ids": ["a", "b"], "criterion": {"clarity": float("inf")}}, "#/criterion/clarity"),
    "a weight that is no number": (
        {"job_ids": ["a", "b"], "criterion": {"clarity": float("nan")}},
        "#/criterion/clarity",
    ),
    "a single job": ({"job_ids": ["a"], "criterion": CRITERION}, "#/job_ids"),
    "the same job twice": ({"job_ids": ["a", "a"], "criterion": CRITERION}, "#/job_ids"),
    "too many jobs": ({"job_ids": list(map(str, range(101))), "criterion": CRITERION}, "#/job_ids"),
    "an unknown field": ({"job_ids": ["a", "b"], "criterion": CRITERION, "order": "best"}, "#/order"),
    "a list": ([], "#"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_body_that_is_not_valid_is_pointed_at(client: httpx.AsyncClient, kind: str) -> None:
    body, pointer = BAD[kind]
    answer = await client.post("/compare", content=json.dumps(body))
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 10_000])
async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/compare", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_no_more_is_read_than_a_request_can_need(app: FastAPI) -> None:
    endless = Client(app, iter(lambda: {"type": "http.request", "body": b" " * 1024, "more_body": True}, None))
    answer = await endless.post("/compare", {"Transfer-Encoding": "chunked"})
    assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")
    assert endless.asked == MAX_JSON_BYTES // 1024 + 1
    declared = Client(app, [])
    answer = await declared.post("/compare", {"Content-Length": str(MAX_JSON_BYTES + 1)})
    assert (answer.status, declared.asked) == (413, 0)


async def test_a_hundred_jobs_are_compared(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    job_ids = [scored(jobs, 1 + n / 50) for n in range(100)]
    assert len((await compared(client, job_ids)).json()["ranking"]) == 100
