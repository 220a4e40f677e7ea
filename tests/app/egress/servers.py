"""HTTP servers that note who called them, for tests of what calls out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext


@dataclass
class Receiver:
    """A server, and the `Host` and path of each request that reached it."""

    port: int
    calls: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def receiver(
    address: str = "127.0.0.1",
    *,
    port: int = 0,
    status: int = 200,
    headers: dict[str, str] | None = None,
    tls: Path | None = None,
) -> Iterator[Receiver]:
    """A server that answers everything alike; over TLS with the certificate and key `tls` with `.pem` and `.key`."""
    found = Receiver(0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.calls.append((self.headers["Host"], self.path))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"audio")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer((address, port), Handler) as server:
        if tls is not None:
            context = SSLContext(PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.with_suffix(".pem"), tls.with_suffix(".key"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
