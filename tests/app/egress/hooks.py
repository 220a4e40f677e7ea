"""A receiver of webhooks: keeps what it gets, and answers as it is told."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The body as JSON. Raises where it is not signed with the secret, or not for now."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Hook:
    """What a receiver has got. `reply` decides each answer; it may take its time, or raise to break the connection."""

    port: int
    received: list[Received] = field(default_factory=list)
    reply: Callable[[Received], Reply] = lambda _received: Reply()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/apex"

    @property
    def ids(self) -> Counter[str]:
        return Counter(each.event_id for each in self.received)


@contextmanager
def hook(*replies: Reply, port: int = 0) -> Iterator[Hook]:
    """A receiver on this machine. It gives these replies one after the other, and the last one for ever."""
    found = Hook(0)
    if replies:
        found.reply = lambda _: replies[min(len(found.received), len(replies)) - 1]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(n_bytes := int(self.headers["content-length"]))
            if len(body) < n_bytes:
                return  # its sender died
            one = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            found.received.append(one)
            reply = found.reply(one)
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Somebody hung up."""

    with Server(("127.0.0.1", port), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def types(received: Sequence[Received], secret: str) -> list[str]:
    """The types of what was received, each verified."""
    return [str(each.verified(secret)["type"]) for each in received]
