"""What `DELETE /jobs/{id}` leaves: no copy of the job's data in Redis or on disk; no repetition brings any back."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.json_types import Json
from tests.app.api.asgi import FORM, RAW, WAV, digest, form, part
from tests.app.records import MODEL

pytestmark = pytest.mark.anyio

TRACK, OTHER = WAV + b"purged", WAV + b"kept"
KEY = {"Idempotency-Key": "k-1"}
RESULT = {"scores": {"clarity": 3.14159265}, "ranges": {"clarity": [1.0, 5.0]}}
OPTIONS = {"external_id": "external-needle", "metadata": '{"name-needle": "value-needle"}', "embedding": "true"}
EMBEDDING = {"float32": "ZW1iZWRkaW5nLW5lZWRsZQ=="}
NEEDLES = [
    *(b"ZW1iZWRkaW5nLW5lZWRsZQ==", b"external-needle", b"name-needle", b"value-needle", b"file-needle", b"3.14159265"),
    hashlib.sha256(TRACK).hexdigest().encode(),
    TRACK,
]


@pytest.fixture
def plain_dumps(redis: Redis) -> Iterator[None]:
    """Have `DUMP` show what is stored instead of compressing it."""
    redis.config_set("rdbcompression", "no")
    yield
    redis.config_set("rdbcompression", "yes")


def stored(redis: Redis, folder: Path) -> Iterator[tuple[str, bytes]]:
    """All that is kept anywhere, with where it is."""
    for key in cast(list[bytes], redis.keys()):
        yield f"key {key!r}", key + cast(bytes, redis.dump(key))
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.name.encode() + path.read_bytes()


def found(redis: Redis, services: Services) -> list[tuple[str, bytes]]:
    folder = services.settings.data_dir
    return [(place, needle) for place, content in stored(redis, folder) for needle in NEEDLES if needle in content]


def run(services: Services, job_id: str) -> None:
    services.worker_info.publish_model(MODEL)
    job = services.machine.start(job_id, max_attempts=3, lease_s=60)
    assert job
    services.machine.report(job, progress={"stage": "embedding", "segments_done": 1, "segments_total": 2})
    audio = job.audio | {"duration_s": 3.14159265}
    services.machine.succeed(job, embedding=EMBEDDING, result=RESULT, model=MODEL, audio=audio)
    services.storage.delete(job_id)


def track_form(**more: str) -> bytes:
    fields = [part(name, value.encode()) for name, value in (OPTIONS | more).items()]
    return form(part("file", TRACK, filename="file-needle.wav"), *fields)


def batch_form() -> bytes:
    tracks = [part("files", TRACK, filename="file-needle.wav"), part("files", OTHER, filename="other.wav")]
    return form(*tracks, part("batch_external_id", b"album"))


async def send(client: httpx.AsyncClient, path: str, body: bytes, **headers: str) -> Json:
    answer = await client.post(path, content=body, headers=FORM | KEY | headers)
    assert answer.is_success, answer.text
    answered: Json = answer.json()
    return answered


async def purge(client: httpx.AsyncClient, job_id: str) -> None:
    assert (await client.delete(f"/jobs/{job_id}")).status_code == 204


async def test_nothing_is_kept_of_a_purged_track(
    client: httpx.AsyncClient, services: Services, redis: Redis, plain_dumps: None
) -> None:
    job = await send(client, "/score", track_form(), **digest(track_form()))
    assert found(redis, services)
    run(services, job["id"])
    copy = (await client.post("/score?embedding=true", content=TRACK, headers=RAW)).json()
    assert copy["cached"]
    for job_id in (job["id"], copy["id"]):
        await purge(client, job_id)
    assert found(redis, services) == []


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "canceled"])
async def test_nothing_is_kept_of_a_purged_track_of_a_batch(
    client: httpx.AsyncClient, services: Services, redis: Redis, plain_dumps: None, state: str
) -> None:
    batch = await send(client, "/batches", batch_form(), **digest(batch_form()))
    ids = [batch["items"][0]["job"]["id"], (await send(client, "/score", track_form(batch_id=batch["id"])))["id"]]
    for job_id in ids:
        if state == "succeeded":
            run(services, job_id)
        elif state == "running":
            assert services.machine.start(job_id, max_attempts=3, lease_s=60)
        elif state == "canceled":
            await client.post(f"/jobs/{job_id}/cancel")
    await send(client, "/batches", batch_form())
    for job_id in ids:
        await purge(client, job_id)
    assert found(redis, services) == []


@pytest.mark.parametrize("declared", [digest(batch_form()), {}])
async def test_a_repeated_batch_shows_what_is_left_of_it_and_brings_nothing_back(
    client: httpx.AsyncClient, services: Services, redis: Redis, plain_dumps: None, declared: dict[str, str]
) -> None:
    first = await send(client, "/batches", batch_form(), **declared)
    purged, kept = (item["job"]["id"] for item in first["items"])
    run(services, purged)
    await purge(client, purged)
    for _ in range(2):
        again = await send(client, "/batches", batch_form(), **declared)
        assert again["id"] == first["id"]
        assert again["items"][0]["problem"]["code"] == "job_expired"
        assert "filename" not in again["items"][0]
        assert (again["items"][1]["job"]["id"], again["items"][1]["filename"]) == (kept, "other.wav")
        assert found(redis, services) == []


async def test_a_response_that_was_made_before_the_end_of_a_job_is_not_stored_after_it(
    client: httpx.AsyncClient, services: Services, redis: Redis, plain_dumps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is deleted between the moment at which the response is made, and the one at which it is stored."""
    real, purged = services.idempotency.complete, list[str]()

    def complete(*arguments: Any, **more: Any) -> None:
        if not purged:
            [job_id] = (job_id for _, job_id in services.jobs.list_by_created("open"))
            services.job_service.purge(services.jobs.get(job_id) or pytest.fail("no job"))
            purged.append(job_id)
        real(*arguments, **more)

    monkeypatch.setattr(type(services.idempotency), "complete", lambda _self, *a, **kw: complete(*a, **kw))
    first = await send(client, "/batches", form(part("files", TRACK, filename="file-needle.wav")))
    assert purged
    assert found(redis, services) == []
    again = await send(client, "/batches", form(part("files", TRACK, filename="file-needle.wav")))
    assert (again["id"], again["counts"]["expired"]) == (first["id"], 1)
