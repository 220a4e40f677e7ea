"""Malicious forms: each is refused early, delays no other request, and its file names reach nothing."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from types import FrameType

import httpx
import pytest

from app.api.dependencies import Services
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.logging import JsonFormatter
from tests.app.api.asgi import BOUNDARY, FORM, WAV, form, part, track_form
from tests.conftest import KEYS, audio_files

pytestmark = pytest.mark.anyio

KIB, MIB = 1024, 1024 * 1024
CANARY = "c4nary-name"
CHUNK_BYTES = 64 * KIB
#: How much of a form may be read before it is refused: what may stand before and behind the parts, and a chunk.
MAX_TAKEN_BYTES = 256 * KIB + CHUNK_BYTES
#: How many functions may be called in one turn of the event loop, in which all other requests wait.
MAX_CALLS_IN_A_TURN = 5_000


def raw_part(*headers: bytes, content: bytes = WAV) -> bytes:
    return b"--%s\r\n%s\r\n\r\n%s\r\n" % (BOUNDARY, b"\r\n".join(headers), content)


def named(parameters: str) -> bytes:
    """A form whose file part has these parameters in its disposition."""
    return form(raw_part(b"Content-Disposition: form-data; " + parameters.encode("utf-8", "surrogateescape")))


NAME = b'Content-Disposition: form-data; name="file"'
END = b"--%s--\r\n" % BOUNDARY

REFUSED: dict[str, Callable[[], bytes]] = {
    "1,001 files": lambda: form(*[part("file", WAV, filename="a.wav")] * 1001),
    "1,001 fields": lambda: form(*[part(f"field{index}", b"x") for index in range(1001)]),
    "1,001 times one field": lambda: form(*[part("external_id", b"x")] * 1001),
    "10,000 part headers": lambda: form(raw_part(NAME, *[b"X: y"] * 10_000)),
    "a part header of 1 MB": lambda: form(raw_part(NAME, b"X: " + b"y" * MIB)),
    "a part header's name of 1 MB": lambda: form(raw_part(NAME, b"X" * MIB + b": y")),
    "a disposition of 1 MB": lambda: named('name="file"; filename="' + "a" * MIB + '"'),
    "100,000 parameters": lambda: named('name="file"' + "; a=b" * 100_000),
    "a preamble of 10 MB": lambda: b"x" * (10 * MIB) + track_form(),
    "a preamble of blank lines": lambda: b"\r\n" * MIB + track_form(),
    "an epilogue of 10 MB": lambda: track_form() + b"x" * (10 * MIB),
    "another form as an epilogue of 10 MB": lambda: track_form() + track_form(bytes(10 * MIB)),
    "a text field of 10 MB": lambda: form(part("external_id", b"x" * (10 * MIB))),
    "a text field of 1 MB behind the file": lambda: form(part("file", WAV), part("external_id", b"x" * MIB)),
    "a form in a form": lambda: form(raw_part(NAME, b"Content-Type: multipart/mixed; boundary=x", content=b"--x\r\n")),
    "10,000 empty parts": lambda: (b"--%s\r\n\r\n\r\n" % BOUNDARY) * 10_000 + END,
    "10,000 boundaries": lambda: (b"--%s\r\n" % BOUNDARY) * 10_000,
    "nothing": lambda: b"",
    "the end alone": lambda: END,
    "no end": lambda: track_form()[: -len(END)],
    "no part at all": lambda: b"hello",
    "no name": lambda: named('filename="a.wav"'),
    "an empty name": lambda: named('name=""'),
    "a name in RFC 5987 alone": lambda: named("name*=UTF-8''file"),
    "two names": lambda: named('name="external_id"; name="file"; name="other"'),
    "no disposition": lambda: form(raw_part(b"Content-Type: audio/wav")),
    "another disposition": lambda: form(raw_part(b'Content-Disposition: attachment; name="file"')),
    "a header without a colon": lambda: form(raw_part(NAME, b"nonsense")),
    "a header with a NUL": lambda: form(raw_part(NAME, b"X\0Y: z")),
    "a folded header": lambda: form(raw_part(b"Content-Disposition: form-data;", b' name="file"')),
    "line feeds alone": lambda: track_form().replace(b"\r\n", b"\n"),
    "a file in base64": lambda: form(raw_part(NAME, b"Content-Transfer-Encoding: base64", content=b"UklGRg==")),
}


@asynccontextmanager
async def counted() -> AsyncIterator[list[int]]:
    """How many functions this thread calls in each turn of its event loop.

    A count and not a time, because times depend on what else the machine and the test process do.
    """
    calls = count()
    turns: list[int] = []

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            next(calls)

    async def tick() -> None:
        before = next(calls)
        while True:
            await asyncio.sleep(0)
            turns.append(-before + (before := next(calls)))

    clock = asyncio.create_task(tick())
    sys.setprofile(on_event)
    try:
        yield turns
    finally:
        sys.setprofile(None)
        clock.cancel()


class Upload:
    """A body as a server hands it over, which knows how much of it was asked for."""

    def __init__(self, body: bytes) -> None:
        self.body, self.taken_bytes = body, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := self.body[self.taken_bytes : self.taken_bytes + CHUNK_BYTES]:
            self.taken_bytes += len(chunk)
            yield chunk
            await asyncio.sleep(0)


@pytest.mark.parametrize("case", REFUSED)
async def test_an_abusive_form_is_refused_early_and_leaves_nothing(
    client: httpx.AsyncClient, services: Services, case: str
) -> None:
    upload = Upload(REFUSED[case]())
    async with counted() as turns:
        answer = await client.post("/score", content=upload, headers=FORM)
    assert 400 <= answer.status_code < 500
    assert upload.taken_bytes <= MAX_TAKEN_BYTES
    assert max(turns) < MAX_CALLS_IN_A_TURN
    assert audio_files(services.settings.audio_dir) == []
    assert UnfinishedJobs(services.redis, KEYS).ids() == []


BOUNDARIES = [
    "",
    "boundary=",
    'boundary=""',
    "boundary=" + "a" * 300,
    "boundary*=UTF-8''b0undary",
    "boundary=a; boundary=b",
]


@pytest.mark.parametrize("parameters", BOUNDARIES)
async def test_a_form_without_a_usable_boundary_is_refused(client: httpx.AsyncClient, parameters: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; {parameters}"}
    assert (await client.post("/score", content=track_form(), headers=headers)).status_code == 400


FILE_NAMES = {
    "RFC 5987": f"filename*=UTF-8''..%2f{CANARY}",
    "two names": f"filename=\"a.wav\"; filename*=UTF-8''{CANARY}",
    "a path": f'filename="../../../tmp/{CANARY}"',
    "a Windows path": f'filename="C:\\\\{CANARY}"',
    "a NUL": f'filename="{CANARY}\0.wav"',
    "10 kB": f'filename="{CANARY * 250}"',
    "right to left": f'filename="\u202e{CANARY}"',
    "an emoji": f'filename="🎵{CANARY}"',
    "a broken encoding": f'filename="\udcff{CANARY}"',
    "a line break": f'filename="{CANARY}%0d%0aX: y"',
    "a semicolon": f'filename="{CANARY};name=other"',
}


@pytest.mark.parametrize("parameters", FILE_NAMES.values(), ids=FILE_NAMES.keys())
async def test_a_file_name_never_leaves_its_form(
    client: httpx.AsyncClient, services: Services, caplog: pytest.LogCaptureFixture, parameters: str
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(JsonFormatter())
    answer = await client.post("/score", content=named(f'name="file"; {parameters}'), headers=FORM)
    assert answer.status_code in (202, 400)
    assert CANARY not in answer.text + str(answer.headers) + caplog.text
    assert not [path for path in services.settings.audio_dir.rglob("*") if CANARY in path.name]
    assert not [key for key in services.redis.scan_iter() if CANARY.encode() in key + (services.redis.dump(key) or b"")]
