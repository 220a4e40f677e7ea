"""Runs the receivers of `docs/api.md`: programs that listen, and one that a server runs as CGI."""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.redis_servers import until


@dataclass(frozen=True)
class ExampleReceiver:
    """A receiver that listens, and what it has printed or written so far."""

    url: str
    printed: Callable[[], str]


@contextmanager
def listening(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[ExampleReceiver]:
    """A program that listens at `PORT`."""
    port, out = free_port("127.0.0.1"), folder / "printed"
    environment = os.environ | variables | {"PORT": str(port)}
    with (
        out.open("wb") as stdout,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=stdout, stderr=stdout) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}/"
            until(lambda: _answers(url) or process.poll() is not None)
            yield ExampleReceiver(url, out.read_text)
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.post(url, content=b"").status_code >= 400
    except httpx.TransportError:
        return False


@contextmanager
def as_cgi(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[ExampleReceiver]:
    """A server that runs the program for each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()}
            environment = os.environ | variables | headers
            done = subprocess.run(command, cwd=folder, env=environment, input=body, capture_output=True, check=True)
            status = re.match(rb"Status: (\d+)\n\n", done.stdout)
            self.send_response(int(status[1]) if status else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            written = folder / "job.json"
            yield ExampleReceiver(
                f"http://127.0.0.1:{server.server_port}/", lambda: written.read_text() if written.exists() else ""
            )
        finally:
            server.shutdown()
            thread.join()
