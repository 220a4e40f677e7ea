"""An HTTP proxy between a client and an object store that does at a word of the test what networks and stores do."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: Says for a request, by method and target, what becomes of it; None lets it pass.
Fault = Callable[[str, str], str | None]

BUSY = "busy"
CUT = "cut"
LOST_ANSWER = "lost answer"
HALF_ANSWER = "half an answer"
STALL = "stall"


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on, or not. `seen` has the method and the target of each."""

    daemon_threads = True

    def __init__(self, server_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server_host = urlsplit(server_url).netloc
        self.fault: Fault = lambda _method, _target: None
        self.seen: list[tuple[str, str]] = []
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may give up at any time."""

    def fail(self, what: str, *, times: int, method: str, part_of_target: str = "") -> None:
        """Let this become of the next requests of a kind."""
        left = threading.Semaphore(times)

        def fault(asked: str, target: str) -> str | None:
            matches = asked == method and part_of_target in target
            return what if matches and left.acquire(blocking=False) else None

        self.fault = fault

    def fail_all(self, what: str) -> None:
        self.fault = lambda _method, _target: what

    def heal(self) -> None:
        self.fault = lambda _method, _target: None


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            super().handle_one_request()
            return
        self.close_connection = True

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((self.command, self.path))
        match self.server.fault(self.command, self.path):
            case "busy":
                self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            case "cut":
                self.close_connection = True
            case "lost answer":
                self._ask(body)
                self.close_connection = True
            case "half an answer":
                status, headers, answer = self._ask(body)
                self._answer(status, headers, answer, n_bytes=len(answer) // 2)
                self.close_connection = True
            case "stall":
                self.server.go_on.wait(60)
                self.close_connection = True
            case _:
                self._answer(*self._ask(body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        # Closed even where the server hangs up: an open socket would fail the test that runs when it is collected.
        with closing(http.client.HTTPConnection(self.server.server_host, timeout=60)) as connection:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            answer = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() != "transfer-encoding"}
        return response.status, kept, answer

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, n_bytes: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:n_bytes])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def faulty_proxy(server_url: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(server_url) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.go_on.set()
            proxy.shutdown()
