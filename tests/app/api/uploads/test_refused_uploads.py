"""`POST /score`: what is refused, and that a refusal leaves nothing behind."""

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.dependencies import Services
from app.api.uploads.multipart import FRAMING_BYTES, TEXT_BYTES
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import BOUNDARY, FORM, RAW, SECRET, WAV, chunked, form, part, track_form
from tests.app.api.track_requests import NOT_AUDIO, left_behind, post_form
from tests.app.conftest import client_of

pytestmark = pytest.mark.anyio
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
    "a field that does not exist": (form(part("callback_url", b"x"), part("file", WAV)), 422, "validation_error"),
    "a name that is a secret": (form(part(f"{SECRET} !", b"x"), part("file", WAV)), 422, "validation_error"),
    "a name of 10 kB": (form(part("file", WAV, filename="x" * 10_000)), 400, "malformed_multipart"),
    "a header of 1 MB": (form(part("file" + "x" * 1_000_000, WAV)), 400, "malformed_multipart"),
    "10,000 headers": (b"--%s\r\n%s\r\n" % (BOUNDARY, b"A: b\r\n" * 10_000), 400, "malformed_multipart"),
    "a long preamble": (b"x" * 1_000_000 + track_form(), 400, "malformed_multipart"),
    "a long epilogue": (track_form() + b"x" * (FRAMING_BYTES + 1), 400, "malformed_multipart"),
    "a text part over its limit": (form(part("metadata", b"x" * (TEXT_BYTES + 1))), 422, "validation_error"),
    "an id over its limit": (form(part("file", WAV), part("external_id", LONG_ID.encode())), 422, "validation_error"),
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
    answer = await post_form(client, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert left_behind(services) == []


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


@pytest.mark.parametrize("content_type", ["application/xml", "text/plain", "multipart/mixed", "nonsense"])
async def test_a_body_of_another_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/score", content=WAV, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert {"multipart/form-data", "audio/*", "video/*", "application/octet-stream"} < set(answer.json()["accepted"])


async def test_a_refused_file_says_what_is_accepted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/score", content=NOT_AUDIO, headers=RAW)
    assert {"wav", "flac", "mp3"} <= set(answer.json()["accepted"])


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 5000, "+5"])
async def test_a_length_that_is_no_number_is_a_bad_header(client: httpx.AsyncClient, length: str) -> None:
    answer = await client.post("/score", content=chunked(WAV), headers=RAW | {"Content-Length": length})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_header")


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
