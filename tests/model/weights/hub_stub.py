"""A model hub on this machine, as far as a download needs one, with the faults that a network has."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubStub:
    """Repositories to serve, `repo -> file -> bytes`, and what is to go wrong.

    Like the real one it answers for a large file (`.bin`) with a redirect to another host, and names its sha256.
    """

    repos: dict[str, dict[str, bytes]]
    commit: str = COMMIT
    endpoint: str = ""
    #: What it names as the commit, where that is not the truth.
    claims: str | None = None
    #: File name -> bytes after which its next body breaks off; once.
    cut_after: dict[str, int] = field(default_factory=dict)
    #: File name -> status with which its bodies are refused.
    refuse: dict[str, int] = field(default_factory=dict)
    #: (method, file name, Range header) of every request, in order.
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def bodies(self, name: str) -> list[str | None]:
        """The Range headers of the requests that asked for the bytes of `name`."""
        return [ranged for method, asked, ranged in self.requests if method == "GET" and asked == name]


@contextmanager
def serve(hub: HubStub) -> Iterator[HubStub]:
    """Serve `hub` on a free port of 127.0.0.1 while the block runs; its address is in `hub.endpoint`."""

    class Handler(_Handler):
        stub = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    stub: HubStub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def _answer(self, *, with_body: bool) -> None:
        found = re.fullmatch(r"/(cdn/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        body = found and self.stub.repos.get(found[2], {}).get(found[4])
        if not found or body is None:
            self._head(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        elif found[3] not in ("main", self.stub.commit):
            self._head(404, {"X-Error-Code": "RevisionNotFound", "Content-Length": "0"})
        elif found[4].endswith(".bin") and not found[1]:
            self._redirect(body)
        else:
            self._serve(found[4], body, with_body=with_body)

    def _redirect(self, body: bytes) -> None:
        headers = {
            "Location": self.stub.endpoint.replace("127.0.0.1", "localhost") + f"/cdn{self.path}",
            "X-Repo-Commit": self.stub.claims or self.stub.commit,
            "X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Linked-Size": str(len(body)),
            "Content-Length": "0",
        }
        self._head(302, headers)

    def _serve(self, name: str, body: bytes, *, with_body: bool) -> None:
        asked = self.headers["Range"]
        self.stub.requests.append((self.command, name, asked))
        if with_body and name in self.stub.refuse:
            return self._head(self.stub.refuse[name], {"Content-Length": "0"})
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        etag = hashlib.sha1(b"blob " + body).hexdigest()
        headers = {
            "X-Repo-Commit": self.stub.claims or self.stub.commit,
            "ETag": f'"{etag}"',
            "Content-Length": str(len(body) - start),
        }
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._head(206 if asked else 200, headers)
        if with_body:
            end = self.stub.cut_after.pop(name, len(body))
            self.wfile.write(body[start:end])
            self.close_connection = end < len(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
