"""`POST /score`: what is taken, what is refused, and that a refusal leaves nothing behind."""

import errno
import hashlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from rq.serializers import JSONSerializer

from app.api.dependencies import Services
from app.api.uploads.multipart import FRAMING_BYTES, TEXT_BYTES
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.problems import Problem
from app.core.settings import ApiSettings
from app.core.storage.local import AudioStorage, PartialUpload
from app.main import create_app
from tests.app.api.asgi import BOUNDARY, FORM, RAW, SECRET, WAV, chunked, form, part, track_form
from tests.app.conftest import client_of

pytestmark = pytest.mark.anyio


def stored(services: Services) -> list[bytes]:
    return [file.read_bytes() for file in services.storage.directory.iterdir()]


def left_behind(services: Services) -> list[Any]:
    return [*services.storage.directory.iterdir(), *UnfinishedJobs(services.redis).ids(), *services.queue.rq.job_ids]


async def post_form(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post("/score", content=body, headers=FORM)


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
    assert services.storage.path(job["id"]).read_bytes() == WAV
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
    assert [file.name for file in services.storage.directory.iterdir()] == [job_id]
    assert not filename or filename not in json.dumps(answer.json(), ensure_ascii=False)


NOT_AUDIO = b"<html>" + SECRET.encode() * 100
LONG_ID = SECRET + "x" * 200
REFUSED_FORMS: dict[str, tuple[bytes, int, str]] = {
    "no body at all": (b"", 400, "malformed_multipart"),
    "no parts": (form(), 400, "missing_file"),
    "only text": (form(part("external_id", b"x")), 400, "missing_file"),
    "no closing boundary": (part("file", WAV), 400, "malformed_multipart"),
    "cut off in a header": (track_form()[:40], 400, "malformed_multipart"),
    "another boundary": (track_form().replace(BOUNDARY, b"other"), 400, "malformed_multipart"),
    "a part without a name": (form(part("file", WAV).replace(b' name="file"', b"")), 400, "malformed_multipart"),
    "a part without headers": (b"--%s\r\n\r\nx\r\n" % BOUNDARY + form(), 400, "malformed_multipart"),
    "two files": (form(part("file", WAV), part("file", WAV)), 400, "too_many_files"),
    "a thousand and one files": (form(*[part("file", WAV)] * 1001), 400, "too_many_files"),
    "a thousand and one fields": (form(*[part("external_id", b"x")] * 1001), 422, "validation_error"),
    "a file under another name": (form(part("audio", WAV, filename="a.wav")), 422, "validation_error"),
    "a field that does not exist": (form(part("webhook_url", b"x"), part("file", WAV)), 422, "validation_error"),
    "a name that is a secret": (form(part(f"{SECRET} !", b"x"), part("file", WAV)), 422, "validation_error"),
    "a name of 10 kB": (form(part("file", WAV, filename="x" * 10_000)), 400, "malformed_multipart"),
    "a header of 1 MB": (form(part("file" + "x" * 1_000_000, WAV)), 400, "malformed_multipart"),
    "10,000 headers": (b"--%s\r\n%s\r\n" % (BOUNDARY, b"A: b\r\n" * 10_000), 400, "malformed_multipart"),
    "a long preamble": (b"x" * 1_000_000 + track_form(), 400, "malformed_multipart"),
    "a long epilogue": (track_form() + b"x" * (FRAMING_BYTES + 1), 400, "malformed_multipart"),
    "a text part over its limit": (form(part("metadata", b"x" * (TEXT_BYTES + 1))), 422, "validation_error"),
    "an id over its limit": (form(part("file", WAV), part("external_id", LONG_ID.encode())), 422, "validation_error"),
    "an empty id": (form(part("file", WAV), part("external_id", b"")), 422, "validation_error"),
    "text that is not UTF-8": (form(part("file", WAV), part("external_id", b"\xff")), 422, "validation_error"),
    "an empty file": (track_form(b""), 415, "unsupported_media_type"),
    "no audio": (track_form(NOT_AUDIO), 415, "unsupported_media_type"),
    "no audio, and short": (track_form(b"abc"), 415, "unsupported_media_type"),
}


@pytest.mark.parametrize("case", REFUSED_FORMS)
async def test_a_bad_form_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, services: Services, case: str
) -> None:
    body, status, code = REFUSED_FORMS[case]
    began = time.monotonic()
    answer = await post_form(client, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert left_behind(services) == []
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'x' * 300}",
    ],
)
async def test_a_form_needs_a_usable_boundary(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/score", content=track_form(), headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_multipart")


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "nonsense", ""])
async def test_a_body_of_another_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/score", content=WAV, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert answer.json()["accepted"] == ["multipart/form-data", "audio/*", "application/octet-stream"]


async def test_a_refused_file_says_what_is_accepted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/score", content=NOT_AUDIO, headers=RAW)
    assert {"wav", "flac", "mp3"} <= set(answer.json()["accepted"])


def metadata(**items: Any) -> str:
    return json.dumps(items)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (SECRET, "#/metadata"),
        ("[]", "#/metadata"),
        ('"x"', "#/metadata"),
        ("[" * 10_000, "#/metadata"),
        ('{"a": "\\ud800"}', "#/metadata"),
        (metadata(**{f"k{n}": "v" for n in range(17)}), "#/metadata"),
        (metadata(album="v" * 513), "#/metadata/album"),
        (metadata(bpm=120), "#/metadata/bpm"),
        (metadata(**{SECRET + "x" * 64: "v"}), "#/metadata"),
        (metadata(**{"": "v"}), "#/metadata"),
    ],
)
async def test_metadata_is_a_small_object_of_strings(client: httpx.AsyncClient, text: str, pointer: str) -> None:
    for answer in (
        await client.post("/score", params={"metadata": text}, content=WAV, headers=RAW),
        await post_form(client, form(part("file", WAV), part("metadata", text.encode()))),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
        assert answer.json()["errors"][0]["pointer"] == pointer


async def test_metadata_may_be_as_large_as_its_limits(client: httpx.AsyncClient) -> None:
    items = {f"{n:02}" + "k" * 62: "\U0001f3b5" * 512 for n in range(16)}
    body = form(part("file", WAV), part("metadata", json.dumps(items, ensure_ascii=False).encode()))
    assert (await post_form(client, body)).json()["metadata"] == items


async def test_an_option_is_given_once_wherever_it_is_given(client: httpx.AsyncClient) -> None:
    for url, body in (
        ("/score?external_id=a&external_id=b", track_form()),
        ("/score?external_id=a", form(part("external_id", b"b"), part("file", WAV))),
    ):
        answer = await client.post(url, content=body, headers=FORM)
        assert answer.json()["errors"] == [{"pointer": "#/external_id", "detail": "Given more than once."}]


async def test_an_unknown_query_parameter_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"/score?webhook_url={SECRET}", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/webhook_url")


@pytest.fixture
def small(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"max_upload_bytes": 10_000}), redis=redis)


@pytest.mark.parametrize("headers", [RAW, FORM])
async def test_a_file_of_exactly_the_limit_is_taken(small: FastAPI, headers: dict[str, str]) -> None:
    track = WAV.ljust(10_000, b"\0")
    async with client_of(small) as client:
        answer = await client.post("/score", content=track if headers is RAW else track_form(track), headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize("headers", [RAW, FORM])
@pytest.mark.parametrize("declared", [True, False])
async def test_one_byte_over_the_limit_is_refused(small: FastAPI, headers: dict[str, str], declared: bool) -> None:
    track = WAV.ljust(10_001, b"\0")
    body = track if headers is RAW else track_form(track)
    async with client_of(small) as client:
        answer = await client.post("/score", content=body if declared else chunked(body), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert answer.json()["limit_bytes"] == 10_000
    assert left_behind(small.state.services) == []


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 5000, "+5"])
async def test_a_length_that_is_no_number_is_a_bad_header(client: httpx.AsyncClient, length: str) -> None:
    answer = await client.post("/score", content=chunked(WAV), headers=RAW | {"Content-Length": length})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_header")


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        (errno.ENOSPC, 507, "storage_full"),
        (errno.EDQUOT, 507, "storage_full"),
        (errno.EIO, 503, "storage_unavailable"),
        (errno.EROFS, 503, "storage_unavailable"),
        (errno.ETIMEDOUT, 503, "storage_unavailable"),
    ],
)
@pytest.mark.parametrize("step", ["_write_all", "open", "sync"])
async def test_storage_that_refuses_is_told_and_leaves_nothing(
    client: httpx.AsyncClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    status: int,
    code: str,
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(number, SECRET)

    owner = {"_write_all": PartialUpload, "open": Path, "sync": AudioStorage}[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, refuse)
        answer = await client.post("/score", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["retry-after"]
    assert left_behind(services) == []


async def test_without_redis_nothing_is_accepted_and_nothing_kept(settings: ApiSettings, tmp_path: Path) -> None:
    app = create_app(settings.model_copy(update={"redis_url": f"unix://{tmp_path}/none.sock"}))
    async with client_of(app) as client:
        answer = await client.post("/score", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert list(settings.audio_dir.iterdir()) == []


async def test_a_redis_that_never_answers_is_given_up_within_two_seconds(settings: ApiSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        app = create_app(settings.model_copy(update={"redis_url": url}))
        async with client_of(app) as client, app.router.lifespan_context(app):
            for request in (
                client.build_request("POST", "/score", content=WAV, headers=RAW),
                client.build_request("GET", "/jobs/job_1"),
                client.build_request("GET", "/readyz"),
            ):
                began = time.monotonic()
                answer = await client.send(request)
                assert answer.status_code == 503
                assert time.monotonic() - began < 2


async def test_a_full_redis_refuses_and_leaves_nothing(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    redis.config_set("maxmemory", 1)
    try:
        answer = await client.post("/score", content=WAV, headers=RAW)
    finally:
        redis.config_set("maxmemory", 0)
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    assert left_behind(services) == []


async def test_the_bytes_are_durable_before_the_record(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for owner, name in ((PartialUpload, "commit"), (JobStateMachine, "create")):
        real = getattr(owner, name)

        def noted(*args: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            steps.append(name)
            return real(*args, **options)

        monkeypatch.setattr(owner, name, noted)
    await client.post("/score", content=WAV, headers=RAW)
    assert steps == ["commit", "create"]


async def test_a_problem_raised_late_deletes_the_committed_file(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise Problem("shutting_down")

    monkeypatch.setattr(JobStateMachine, "create", fail)
    answer = await client.post("/score", content=WAV, headers=RAW)
    assert answer.status_code == 503
    assert left_behind(services) == []


async def test_files_are_written_in_threads(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    main, seen = threading.get_ident(), set[int]()
    real = PartialUpload._write_all

    def noted(file: PartialUpload, block: bytes) -> None:
        seen.add(threading.get_ident())
        real(file, block)

    monkeypatch.setattr(PartialUpload, "_write_all", noted)
    await client.post("/score", content=WAV, headers=RAW)
    assert seen
    assert main not in seen
