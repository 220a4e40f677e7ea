"""`POST /score`: what is accepted, and the job that comes of it."""

import hashlib
import json

import httpx
import pytest
from redis import Redis
from rq.serializers import JSONSerializer

from app.api.dependencies import Services
from tests.app.api.asgi import RAW, WAV, form, part
from tests.app.api.track_requests import post_form, stored
from tests.conftest import audio_files

pytestmark = pytest.mark.anyio


async def test_a_form_becomes_a_durable_queued_job(client: httpx.AsyncClient, services: Services) -> None:
    answer = await client.post(
        "/score",
        files={"file": ("track.mp3", WAV, "audio/mpeg")},
        data={"external_id": "track-1", "metadata": '{"album": "ü"}'},
        headers={"X-Request-Id": "r-1"},
    )
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == job["links"]["self"] == f"/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    assert (job["status"], job["done"], job["object"], job["attempt"]) == ("queued", False, "job", 0)
    assert (job["external_id"], job["metadata"], job["request_id"]) == ("track-1", {"album": "ü"}, "r-1")
    assert job["audio"]["sha256"] == hashlib.sha256(WAV).hexdigest()
    assert (job["audio"]["bytes"], job["audio"]["container"]) == (len(WAV), "wav")
    assert job["progress"] == {"stage": "queued", "segments_done": 0, "segments_total": None, "ratio": 0.0}
    assert (services.settings.audio_dir / job["id"]).read_bytes() == WAV
    assert services.queue.rq.job_ids == [job["id"]]


async def test_a_raw_body_is_the_same_job(client: httpx.AsyncClient, services: Services) -> None:
    query = {"external_id": "track-1", "metadata": '{"album": "x"}'}
    answer = await client.post("/score", params=query, content=WAV, headers=RAW)
    job = answer.json()
    assert answer.status_code == 202
    assert (job["external_id"], job["metadata"]) == ("track-1", {"album": "x"})
    assert job["audio"]["sha256"] == hashlib.sha256(WAV).hexdigest()
    assert stored(services) == [WAV]


@pytest.mark.parametrize("media_type", ["audio/mpeg", "AUDIO/X-anything; rate=1", "application/octet-stream"])
async def test_what_a_raw_body_says_it_is_does_not_matter(client: httpx.AsyncClient, media_type: str) -> None:
    answer = await client.post("/score", content=WAV, headers={"Content-Type": media_type})
    assert answer.json()["audio"]["container"] == "wav"


async def test_the_queue_carries_the_id_alone(client: httpx.AsyncClient, services: Services, redis: Redis) -> None:
    job_id = (await client.post("/score", content=WAV, headers=RAW)).json()["id"]
    rq_job = services.queue.rq.fetch_job(job_id)
    assert rq_job is not None
    assert (rq_job.id, rq_job.args, rq_job.kwargs, rq_job.serializer) == (job_id, [], {}, JSONSerializer)


@pytest.mark.parametrize("order", [("file", "external_id"), ("external_id", "file")])
async def test_fields_may_stand_before_and_after_the_file(client: httpx.AsyncClient, order: tuple[str, str]) -> None:
    parts = {"file": part("file", WAV), "external_id": part("external_id", b"x")}
    answer = await post_form(client, form(*(parts[name] for name in order)))
    assert (answer.status_code, answer.json()["external_id"]) == (202, "x")


@pytest.mark.parametrize(
    "filename", ["../../etc/passwd", "a\0b", "/abs.wav", "‮gpj.exe", "\U0001f3b5.mp3", "C:\\x.wav", ""]
)
async def test_a_file_name_reaches_nothing(client: httpx.AsyncClient, services: Services, filename: str) -> None:
    answer = await post_form(client, form(part("file", WAV, filename=filename)))
    job_id = answer.json()["id"]
    assert answer.status_code == 202
    assert [file.name for file in audio_files(services.settings.audio_dir)] == [job_id]
    assert not filename or filename not in json.dumps(answer.json(), ensure_ascii=False)
