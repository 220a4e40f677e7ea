"""What a test key gets: made-up scores, the outcome that was asked for, and nothing of a model or a queue."""

import logging
from collections.abc import Mapping

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.api.test_mode import outcomes
from app.api.test_mode.outcomes import OUTCOMES, Outcome, made_up_scores, outcome_of
from app.core.jobs.models import Job
from model.domain import SCORE_RANGES
from tests.app.api.asgi import RAW, WAV
from tests.app.api.track_requests import left_behind, stored
from tests.app.records import key_of

pytestmark = pytest.mark.anyio

Headers = Mapping[str, str]


@pytest.fixture
def key(redis: Redis) -> Headers:
    return key_of(redis, "acme", livemode=False)


async def sent(
    client: httpx.AsyncClient, key: Headers, external_id: str | None = "", track: bytes = WAV
) -> httpx.Response:
    return await client.post(f"/score/raw?external_id={external_id}", content=track, headers={**RAW, **key})


async def outcome(
    client: httpx.AsyncClient, services: Services, key: Headers, external_id: str = ""
) -> dict[str, object]:
    """The job of a track, as it is after the runner has come by."""
    job = (await sent(client, key, external_id)).json()
    services.simulator.run_due()
    return dict((await client.get(job["links"]["self"], headers=key)).json())


async def test_a_track_gets_scores_that_say_that_they_are_made_up(
    client: httpx.AsyncClient, services: Services, key: Headers
) -> None:
    job = await outcome(client, services, key)
    assert (job["status"], job["livemode"]) == ("succeeded", False)
    assert job["model"]["trained"] is False  # type: ignore[index]
    scores = job["result"]["scores"]  # type: ignore[index]
    assert scores == made_up_scores(job["audio"]["sha256"])  # type: ignore[index]
    assert all(low <= scores[name] <= high for name, (low, high) in SCORE_RANGES.items())


async def test_a_track_gets_made_up_segments_and_an_embedding_on_request(
    client: httpx.AsyncClient, services: Services, key: Headers
) -> None:
    sent = await client.post("/score/raw?segments=true&embedding=true", content=WAV, headers={**RAW, **key})
    services.simulator.run_due()
    job = (await client.get(sent.json()["links"]["self"], headers=key)).json()
    [segment] = job["result"]["segments"]
    assert segment["scores"] == made_up_scores(f"{job['audio']['sha256']} 0")
    embedding = (await client.get(job["links"]["embedding"], headers=key)).json()
    assert (embedding["dimension"], embedding["provenance"]["encoder"]) == (768, "apex-test")


def test_made_up_scores_are_of_the_track_alone() -> None:
    assert made_up_scores("a") == made_up_scores("a")
    assert made_up_scores("a") != made_up_scores("b")


async def test_nothing_of_a_test_job_reaches_storage_queue_or_workers(
    client: httpx.AsyncClient, services: Services, key: Headers
) -> None:
    job = (await sent(client, key)).json()
    assert (job["status"], job["queue"]) == ("queued", None)
    assert stored(services) == left_behind(services) == []
    capacity = (await client.get("/capacity", headers=key)).json()
    assert capacity["queue"] == {"jobs": 0, "audio_seconds": 0.0}


@pytest.mark.parametrize(
    ("external_id", "code"), [("test_fail_undecodable", "audio_undecodable"), ("test_worker_lost", "worker_lost")]
)
async def test_a_failure_is_asked_for(
    client: httpx.AsyncClient, services: Services, key: Headers, external_id: str, code: str
) -> None:
    job = await outcome(client, services, key, external_id)
    assert (job["status"], job["error"]["code"]) == ("failed", code)  # type: ignore[index]


async def test_a_full_queue_is_asked_for(
    client: httpx.AsyncClient, key: Headers, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await sent(client, key, "test_queue_full")
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert answer.headers["Retry-After"]
    assert (await client.get("/jobs", headers=key)).json()["items"] == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_each_file_of_a_batch_asks_by_its_name(
    client: httpx.AsyncClient, services: Services, redis: Redis, key: Headers
) -> None:
    names = ("test_fail_undecodable.mp3", "dir/test_worker_lost", "test_queue_full.wav", "a.wav", "test_nothing.wav")
    files = [("files", (name, WAV + name.encode())) for name in names]
    for headers in (key, key_of(redis, "acme")):
        batch = (await client.post("/batches", files=files, headers=headers)).json()
        services.simulator.run_due()
        items = (await client.get(batch["links"]["self"], headers=headers)).json()["items"]
        errors = [(item["job"]["error"] or {}).get("code") if "job" in item else item["status"] for item in items]
        asked = headers is key
        assert errors == (["audio_undecodable", "worker_lost", 503, None, None] if asked else [None] * 5)
        given = [item["job"]["external_id"] for item in items if "job" in item]
        assert given == (["test_fail_undecodable", "test_worker_lost", None, None] if asked else [None] * 5)


async def test_a_slow_job_is_asked_for_and_can_be_canceled(
    client: httpx.AsyncClient, services: Services, key: Headers
) -> None:
    job = await outcome(client, services, key, "test_slow_20s")
    assert job["status"] == "running"
    assert (await client.post(job["links"]["cancel"], headers=key)).status_code == 202  # type: ignore[index]
    services.simulator.run_due()
    job = (await client.get(job["links"]["self"], headers=key)).json()  # type: ignore[index]
    assert (job["status"], job["status_reason"]) == ("canceled", "by_client")


async def test_an_outcome_is_not_hidden_by_scores_that_are_known(
    client: httpx.AsyncClient, services: Services, key: Headers
) -> None:
    assert (await outcome(client, services, key))["status"] == "succeeded"
    assert (await sent(client, key)).json()["cached"] is True
    assert (await outcome(client, services, key, "test_worker_lost"))["status"] == "failed"


async def test_a_live_key_can_ask_for_no_outcome(client: httpx.AsyncClient, services: Services, redis: Redis) -> None:
    for name in OUTCOMES:
        answer = await sent(client, key_of(redis, "acme"), name, WAV + str(name).encode())
        assert (answer.status_code, answer.json()["livemode"]) == (202, True)
    services.simulator.run_due()
    assert len(services.queue.rq.job_ids) == len(OUTCOMES)


def test_a_webhook_of_a_test_job_can_be_made_to_fail() -> None:
    job = Job("job_1", "", tenant="acme/test", external_id="test_webhook_500")
    assert outcome_of(job).webhook_status == 500
    assert outcome_of(Job("job_1", "", tenant="acme", external_id="test_webhook_500")) == Outcome() == outcomes.USUAL
