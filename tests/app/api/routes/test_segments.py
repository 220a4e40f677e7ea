"""`segments=true`: the scores of each 30 s, what they are based on, and how much they vary."""

import httpx
import pytest

from app.api.dependencies import Services
from app.core.jobs.models import Job
from app.core.jobs.state_machine import JobStateMachine
from tests.app.api.asgi import FORM, RAW, WAV, form, part
from tests.app.api.submissions.requests import score
from tests.app.records import MODEL, RESULT, SHOWN, running

pytestmark = pytest.mark.anyio

SPREAD = {"method": "segment_bootstrap", "level": 0.9, "clarity": [3.1, 3.2]}
REFERENCE = {"name": "A catalogue", "date": "2026-11-27", "n_tracks": 12000}
KEPT = RESULT | {"segment_scores": {"clarity": [3.2, 3.1, 3.0]}, "spread": SPREAD}


@pytest.fixture
def jobs(services: Services) -> JobStateMachine:
    return services.machine


def ended(jobs: JobStateMachine, *, duration_s: float = 63.4, unit: str = "song", **values: object) -> Job:
    run = running(jobs, **values)
    audio = {"duration_s": duration_s}
    jobs.succeed(run, result=KEPT | {"warnings": []}, model=MODEL | {"training_unit": unit}, audio=audio)
    return run


async def test_a_job_that_asks_for_segments_shows_them(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    job = (await client.get(f"/jobs/{ended(jobs, with_segments=True).id}")).json()
    assert job["result"] == SHOWN | {
        "segments": [
            {"start_s": 0.0, "end_s": 30.0, "scores": {"clarity": 3.2}},
            {"start_s": 30.0, "end_s": 60.0, "scores": {"clarity": 3.1}},
            {"start_s": 60.0, "end_s": 63.4, "scores": {"clarity": 3.0}},
        ],
        "basis": job["result"]["basis"],
        "spread": SPREAD,
    }


async def test_a_job_that_asks_for_none_shows_none(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    assert (await client.get(f"/jobs/{ended(jobs).id}")).json()["result"] == SHOWN


@pytest.mark.parametrize(
    ("unit", "duration_s", "said"),
    [
        ("song", 63.4, ["trained on songs", "is not the song's score", "3.4 s of sound"]),
        ("segment", 90.0, ["trained on segments", "is not the song's score", "Every segment is full"]),
        ("song", 60.0, ["has 0 s of sound"]),  # resampling rounds the length up by less than a millisecond
    ],
)
async def test_the_basis_says_what_the_head_learned_and_how_short_the_last_segment_is(
    client: httpx.AsyncClient, jobs: JobStateMachine, unit: str, duration_s: float, said: list[str]
) -> None:
    run = ended(jobs, unit=unit, duration_s=duration_s, with_segments=True)
    basis = (await client.get(f"/jobs/{run.id}")).json()["result"]["basis"]
    assert basis["training_unit"] == unit
    assert basis["last_segment_s"] == pytest.approx(duration_s - 60)
    assert all(words in basis["detail"] for words in said)


async def test_percentiles_are_shown_with_their_reference(client: httpx.AsyncClient, jobs: JobStateMachine) -> None:
    run = running(jobs)
    percentiles = {"reference": REFERENCE, "clarity": 73.4}
    jobs.succeed(run, result=RESULT | {"percentiles": percentiles}, model=MODEL)
    assert (await client.get(f"/jobs/{run.id}")).json()["result"]["percentiles"] == percentiles


@pytest.mark.parametrize("asked", ["true", "False", ""])
async def test_segments_are_asked_for_in_a_form_and_in_a_query(client: httpx.AsyncClient, asked: str) -> None:
    raw = await client.post(f"/score/raw?segments={asked}", content=WAV, headers=RAW)
    body = form(part("file", WAV, filename="a.wav"), part("segments", asked.encode()))
    assert (raw.status_code, (await client.post("/score", content=body, headers=FORM)).status_code) == (202, 202)


@pytest.mark.parametrize("wrong", ["yes", "1", "null"])
async def test_what_is_neither_true_nor_false_is_refused(client: httpx.AsyncClient, wrong: str) -> None:
    answer = await client.post(f"/score/raw?segments={wrong}", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/segments")


async def test_a_key_is_of_one_request_with_its_options(client: httpx.AsyncClient) -> None:
    key = RAW | {"Idempotency-Key": "k"}
    assert (await client.post("/score/raw", content=WAV, headers=key)).status_code == 202
    answer = await client.post("/score/raw?segments=true", content=WAV, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_scores_that_are_known_answer_with_their_segments(client: httpx.AsyncClient, services: Services) -> None:
    sent = (await client.post("/score/raw", content=WAV, headers=RAW)).json()
    score(services, sent["id"], result=KEPT)
    job = (await client.post("/score/raw?segments=true", content=WAV, headers=RAW)).json()
    assert (job["cached"], len(job["result"]["segments"])) == (True, 3)


async def test_scores_without_segments_answer_no_request_for_them(
    client: httpx.AsyncClient, services: Services
) -> None:
    """An older version kept none."""
    score(services, (await client.post("/score/raw", content=WAV, headers=RAW)).json()["id"])
    assert (await client.post("/score/raw", content=WAV, headers=RAW)).json()["cached"]
    assert (await client.post("/score/raw?segments=true", content=WAV, headers=RAW)).status_code == 202


async def test_each_track_of_a_batch_has_its_segments(client: httpx.AsyncClient, services: Services) -> None:
    body = form(part("files", WAV, filename="a.wav"), part("segments", b"true"))
    batch = (await client.post("/batches", content=body, headers=FORM)).json()
    score(services, batch["items"][0]["job"]["id"], result=KEPT)
    [item] = (await client.get(f"/batches/{batch['id']}")).json()["items"]
    assert len(item["job"]["result"]["segments"]) == 3
