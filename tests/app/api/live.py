"""The front end under a real server, in a thread of the test's own process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from app.api.dependencies import Services
from app.api.server.connections import ConnectionLimits
from app.api.server.server import Server

#: A server that ends what it holds open stops long before.
STOP_S = 60.0


@dataclass
class Live:
    """A server that answers at `url`."""

    url: str
    server: Server
    services: Services
    thread: threading.Thread

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)  # type: ignore[arg-type]

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        return url.host, url.port or 0

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self.server.should_exit = True
        self.thread.join(STOP_S)
        assert not self.thread.is_alive()


@contextmanager
def live(app: FastAPI, limits: ConnectionLimits | None = None, **options: float) -> Iterator[Live]:
    """Serve until the block ends. The options are of the steps of a stop."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(app, limits or ConnectionLimits(), **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server")
    thread.start()
    port = listening.getsockname()[1]
    serving = Live(f"http://127.0.0.1:{port}", server, app.state.services, thread)
    try:
        yield serving
    finally:
        serving.stop()


def eventually(condition: object, timeout_s: float = 60.0) -> None:
    """Wait until a callable says yes."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
