"""A receiver of webhooks on this machine, for the demonstration."""

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import standardwebhooks

from model.domain import ApexError


@dataclass
class WebhookReceiver:
    """Keeps what it gets until it is asked for."""

    url: str
    received: "queue.Queue[tuple[Mapping[str, str], bytes]]" = field(default_factory=queue.Queue)

    def next_event(self, secret: str, *, timeout_s: float) -> dict[str, Any]:
        """The next event, its signature verified. Raises `ApexError` where none comes, or one that is not signed."""
        try:
            headers, body = self.received.get(timeout=timeout_s)
            standardwebhooks.Webhook(secret).verify(body, dict(headers))
        except queue.Empty:
            raise ApexError(f"no webhook came within {timeout_s:.0f} s") from None
        except standardwebhooks.WebhookVerificationError as error:
            raise ApexError(f"a webhook came that is not signed as it should be: {error}") from None
        event: dict[str, Any] = json.loads(body) | {"id": headers["webhook-id"]}
        return event


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """A receiver until the block ends."""
    found = WebhookReceiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.received.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """The demonstration shows what it wants to show."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="receiver")
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
