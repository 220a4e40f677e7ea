"""A server of tracks that sends them well, badly, or not at all: what it does is the path of the URL."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.model import tracks

WAV = tracks.wav(tracks.ramp(2 * 8_000), 8_000)
#: What no log, record, event or answer may show.
SECRET = "hush-hush"


@dataclass
class Source:
    """A running server. `calls` counts the requests of each path; `released` ends what stalls."""

    port: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    content: bytes = WAV
    redirect_to: str = ""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?signature={SECRET}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    source: Source

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.source.calls[path] += 1
        self.source.headers.append(dict(self.headers))
        self.close_connection = True
        with suppress(OSError):
            _BEHAVIOURS[path.partition("-")[0]](self)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    @property
    def n_calls(self) -> int:
        return self.source.calls[self.path.partition("?")[0].strip("/")]

    def log_message(self, *_: object) -> None: ...


def _slow(handler: Handler) -> None:
    """Sends a track in small parts."""
    content = handler.source.content
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for start in range(0, len(content), 4096):
        handler.wfile.write(content[start : start + 4096])
        handler.source.released.wait(0.1)


def _recovers(handler: Handler) -> None:
    """Stalls, breaks off and answers nothing, before it sends a track."""
    first = {1: "stall", 2: "cut", 3: "nonsense"}
    _BEHAVIOURS[first.get(handler.n_calls, "track")](handler)


def _stall(handler: Handler) -> None:
    handler.answer(200, handler.source.content[:1000], Content_Length=str(len(handler.source.content)))
    handler.source.released.wait(60)


def _endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.source.released.is_set():
        handler.wfile.write(handler.source.content)


def _second_time(handler: Handler) -> None:
    handler.answer(*((503, b"") if handler.n_calls == 1 else (200, handler.source.content)))


def _cut_first(handler: Handler) -> None:
    handler.answer(200, handler.source.content[: 500 if handler.n_calls == 1 else None], Content_Length=str(len(WAV)))


_BEHAVIOURS: Mapping[str, Callable[[Handler], object]] = {
    "track": lambda handler: handler.answer(200, handler.source.content),
    "text": lambda handler: handler.answer(200, b"<html>no track</html>"),
    "empty": lambda handler: handler.answer(200, b""),
    "gone": lambda handler: handler.answer(404, b"no"),
    "forbidden": lambda handler: handler.answer(403, b"expired", Set_Cookie="a=b"),
    "down": lambda handler: handler.answer(503, b"", Retry_After="1"),
    "redirect": lambda handler: handler.answer(302, b"", Location=handler.source.redirect_to),
    "partial": lambda handler: handler.answer(206, WAV[:100], Content_Range="bytes 0-99/1000"),
    "gzip": lambda handler: handler.answer(200, WAV, Content_Encoding="gzip"),
    "cut": lambda handler: handler.answer(200, WAV[:1000], Content_Length=str(len(WAV))),
    "huge": lambda handler: handler.answer(200, WAV, Content_Length=str(10**12)),
    "nonsense": lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "silent": lambda handler: handler.source.released.wait(60),
    "stall": _stall,
    "slow": _slow,
    "recovers": _recovers,
    "endless": _endless,
    "second": _second_time,
    "flaky": _cut_first,
}


@contextmanager
def source(content: bytes = WAV, *, redirect_to: str = "") -> Iterator[Source]:
    """A server on loopback until the block ends."""
    found = Source(content=content, redirect_to=redirect_to or "/track")
    handler = type("SourceHandler", (Handler,), {"source": found})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            found.released.set()
            server.shutdown()
            thread.join()
