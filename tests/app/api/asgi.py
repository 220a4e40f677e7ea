"""Tools of the front end's tests: tracks, forms, and requests sent message by message."""

import base64
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import Message

from app.api.schemas.problem import Problem as ProblemBody
from app.core.problems import MEDIA_TYPE, PROBLEMS
from tests.app.api.documented import check_documented

WAV = b"RIFF\x24\x10\x00\x00WAVEfmt " + bytes(range(256)) * 16
RAW = {"Content-Type": "audio/wav"}
BOUNDARY = b"b0undary"
FORM = {"Content-Type": "multipart/form-data; boundary=b0undary"}
SECRET = "s3cret-value"


def part(name: str, content: bytes, *, filename: str | None = None) -> bytes:
    """One part of a form, as raw as the test wants it."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return b"--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % (BOUNDARY, disposition.encode(), content)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--%s--\r\n" % BOUNDARY


def track_form(content: bytes = WAV) -> bytes:
    return form(part("file", content, filename="track.wav"))


def digest(body: bytes) -> dict[str, str]:
    """The header of a body that is what it says."""
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"}


async def chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    """A body without a declared length."""
    for chunk in chunks:
        yield chunk


async def check_promises(response: httpx.Response) -> None:
    """What holds for every answer: documented, an id, no sniffing, no echo; and for every error: a complete problem."""
    await response.aread()
    check_documented(response)
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert SECRET not in response.text
    is_page = response.headers.get("content-type", "").startswith("text/html")
    if response.status_code >= 400 and not is_page and response.request.method != "HEAD":
        check_problem(response.status_code, response.headers["content-type"], response.json())


def check_problem(status: int, content_type: str, body: dict[str, Any]) -> None:
    assert content_type == MEDIA_TYPE
    problem = ProblemBody.model_validate(body, strict=True)
    kind = PROBLEMS[problem.code]
    assert (problem.status, problem.status, problem.title) == (status, kind.status, kind.title)
    assert (problem.type, problem.retryable) == (kind.type, kind.retryable)
    assert problem.instance is not None
    assert problem.request_id is not None
    assert "Traceback" not in json.dumps(body)


@dataclass
class AsgiResponse:
    """What an application sent back, message by message."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(b"".join(m.get("body", b"") for m in self.messages[1:]))
        return body


def body_messages(chunks: Sequence[bytes], *, end: bool = True) -> list[Message]:
    """Chunks as a server hands them over; without `end` the client leaves after the last."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b""} if end else {"type": "http.disconnect"})
    return messages


class Client:
    """Sends prepared messages; counts how many of them the application asked for."""

    def __init__(self, app: FastAPI, messages: Iterable[Message]) -> None:
        self.app = app
        self.messages = iter(messages)
        self.asked = 0

    async def post(self, path: str, headers: dict[str, str]) -> AsgiResponse:
        answer = AsgiResponse()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }

        async def send(message: Message) -> None:
            answer.messages.append(message)

        await self.app(scope, self.receive, send)
        return answer

    async def receive(self) -> Message:
        self.asked += 1
        return next(self.messages)


def chunked_sync(size: int, *, as_form: bool) -> tuple[dict[str, str], Iterator[bytes]]:
    """Headers and body of a large track, made as it is sent."""
    rest = size - len(WAV)
    block = b"x" * 65536
    track = itertools.chain([WAV], itertools.repeat(block, rest // len(block)), [block[: rest % len(block)]])
    if not as_form:
        return RAW, iter(track)
    before, after = track_form(b"|").split(b"|")
    return FORM, itertools.chain([before], track, [after])
