"""Bytes sent to a server over a socket, as no HTTP library would send them."""

import re
import socket
from contextlib import suppress

from tests.app.api.live import Live

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def connect(served: Live) -> socket.socket:
    return socket.create_connection((served.server.config.host, int(served.url.rpartition(":")[2])), timeout=60)


def exchange(served: Live, request: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    answer = b""
    with connect(served) as connection, suppress(ConnectionResetError):
        connection.sendall(request)
        while received := connection.recv(65536):
            answer += received
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
