"""How the body of an upload may be declared: its type, its encoding, its boundary. Its bytes decide what it is."""

import gzip

import httpx
import pytest

from tests.app.api.asgi import BOUNDARY, FORM, RAW, WAV, track_form
from tests.app.api.track_requests import NOT_AUDIO

pytestmark = pytest.mark.anyio

RAW_HEADERS = [
    {"Content-Type": content_type}
    for content_type in (
        "audio/x-anything; rate=44100", "video/webm", "video/mp4", "application/ogg", "Application/Octet-Stream",
        "application/x-www-form-urlencoded", "",
    )
]  # fmt: skip


@pytest.mark.parametrize("path", ["/score", "/score/raw"])
@pytest.mark.parametrize("headers", [*RAW_HEADERS, {}])
async def test_the_bytes_of_a_raw_body_decide_whatever_they_are_called(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await client.post(path, content=WAV, headers=headers, params={"external_id": "e"})
    assert answer.status_code == 202
    assert (answer.json()["audio"]["container"], answer.json()["external_id"]) == ("wav", "e")
    refused = await client.post(path, content=NOT_AUDIO, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")


async def test_a_form_does_not_go_where_raw_bodies_go(client: httpx.AsyncClient) -> None:
    answer = await client.post("/score/raw", content=track_form(), headers=FORM)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "POST /score" in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "GZIP"])
async def test_a_body_with_an_encoding_is_told_so(client: httpx.AsyncClient, coding: str) -> None:
    for headers in (RAW, FORM):
        answer = await client.post("/score", content=gzip.compress(WAV), headers=headers | {"Content-Encoding": coding})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        assert "Content-Encoding" in answer.json()["detail"]
        assert answer.headers["accept-encoding"] == "identity"


async def test_a_body_without_an_encoding_may_say_so(client: httpx.AsyncClient) -> None:
    answer = await client.post("/score", content=WAV, headers=RAW | {"Content-Encoding": "identity"})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "parameters",
    ['boundary=" b0undary "', "boundary = b0undary ; charset=utf-8", '\tBoundary="b0undary";', "boundary=b0undary "],
)
async def test_a_boundary_may_be_padded(client: httpx.AsyncClient, parameters: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; {parameters}"}
    assert (await client.post("/score", content=track_form(), headers=headers)).status_code == 202


FORMS = {
    ".NET": b"--%b\r\nContent-Type: audio/wav\r\n"
    b"Content-Disposition: form-data; name=file; filename=track.wav; filename*=utf-8''track.wav\r\n\r\n%w\r\n"
    b"--%b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=external_id\r\n\r\ne\r\n"
    b"--%b--\r\n",
    "Go": b'--%b\r\nContent-Disposition: form-data; name="file"; filename="track.wav"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n%w\r\n"
    b'--%b\r\nContent-Disposition: form-data; name="external_id"\r\n\r\ne\r\n--%b--\r\n',
    "Apache HttpClient": b'--%b\r\nContent-Disposition: form-data; name="external_id"\r\n'
    b"Content-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\ne\r\n"
    b'--%b\r\nContent-Disposition: form-data; name="file"; filename="track.wav"\r\n'
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n%w\r\n--%b--\r\n",
}


@pytest.mark.parametrize("written", FORMS.values(), ids=FORMS.keys())
async def test_a_form_is_read_as_each_library_writes_it(client: httpx.AsyncClient, written: bytes) -> None:
    body = written.replace(b"%b", BOUNDARY).replace(b"%w", WAV)
    headers = {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY.decode()}"'}
    answer = await client.post("/score", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("external_id")) == (202, "e")
    assert answer.json()["audio"]["bytes"] == len(WAV)
