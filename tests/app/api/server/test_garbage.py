"""What a connection held is freed when it ends. In cycles it would stay until garbage is collected, which is seldom."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import BOUNDARY, WAV, form, part
from tests.app.api.live import Live, eventually, live
from tests.app.api.server.sockets import LIVEZ, connect

FORM = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n"


def request(path: str, headers: bytes, body: bytes, *, lacks_bytes: int = 0) -> bytes:
    """A request, of whose body so many bytes are still to come."""
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s" % (path.encode(), headers)
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body) + lacks_bytes, body)


TRACK = form(part("external_id", b"one"), part("file", WAV, filename="a.wav"))
BATCH = form(part("files", WAV, filename="a.wav"), part("files", b"no audio" * 40_000, filename="b.wav"))
REQUESTS = {
    "one": LIVEZ,
    "half of one": LIVEZ[:20],
    "many at once": b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30,
    "half a track": request("/score", b"Content-Type: audio/wav\r\n", WAV, lacks_bytes=1000),
    "half a form": request("/score", FORM, TRACK[:-200], lacks_bytes=200),
    "a form": request("/score", FORM, TRACK),
    "a form that is none": request("/score", FORM, TRACK.replace(BOUNDARY, b"another")),
    "a form with an unknown field": request("/score", FORM, form(part("colour", b"red"))),
    "half a batch": request("/batches", FORM, BATCH[:-200], lacks_bytes=200),
    "a batch, with a file that is refused": request("/batches", FORM, BATCH),
}


@pytest.fixture
def app(settings: ApiSettings, redis: object) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def served(app: FastAPI) -> Iterator[Live]:
    with live(app) as serving:
        yield serving


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_connection_that_ends_leaves_no_garbage(served: Live, sent: bytes) -> None:
    state = served.server.server_state
    with garbage() as left:
        with connect(served) as connection:
            connection.sendall(sent)
            if sent.startswith(b"POST") or sent == LIVEZ:
                eventually(lambda: state.tasks or state.total_requests)
        eventually(lambda: not state.connections and not state.tasks)
    assert left == []


@contextmanager
def garbage() -> Iterator[list[str]]:
    """The modules of this service and its server of which the block left objects in cycles."""
    left: list[str] = []
    gc.collect()
    gc.disable()
    try:
        yield left
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left += sorted({name for it in gc.garbage if (name := type(it).__module__).startswith(("app.", "uvicorn."))})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
