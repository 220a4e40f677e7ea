"""Uploads sent byte by byte over a socket, as no HTTP library would send them, and what a process holds meanwhile."""

import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Begins like a WAV file and is none, so that its job ends soon.
NO_WAV = b"RIFF\xff\xff\xff\x7fWAVEfmt " + bytes(range(256))
BLOCK = bytes(1024 * 1024)
BOUNDARY = "b0undary"


@dataclass
class Response:
    """What came back for an upload."""

    status: int
    body: dict[str, Any]


def form(audio: bytes) -> bytes:
    """A form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="track.wav"\r\n\r\n'
    return head.encode() + audio + f"\r\n--{BOUNDARY}--\r\n".encode()


def request(body_bytes: int) -> bytes:
    """The head of an upload that promises so many bytes."""
    media_type = f"multipart/form-data; boundary={BOUNDARY}"
    return (
        f"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {body_bytes}\r\n\r\n"
    ).encode()


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=60)


class Upload:
    """A file of a size that nobody wants to hold in memory, sent at once or in two halves."""

    def __init__(self, url: str, n_bytes: int) -> None:
        before, self._after = form(b"|").split(b"|")
        self._n_left = n_bytes // len(BLOCK)
        length = len(before) + len(NO_WAV) + self._n_left * len(BLOCK) + len(self._after)
        self._connection = connect(url)
        self._connection.sendall(request(length) + before + NO_WAV)

    def send_half(self) -> None:
        self._send_blocks(self._n_left // 2)

    def _send_blocks(self, n_blocks: int) -> None:
        for _ in range(n_blocks):
            self._connection.sendall(BLOCK)
        self._n_left -= n_blocks

    def finish(self) -> Response:
        """Send the rest; what is answered."""
        with self._connection:
            self._send_blocks(self._n_left)
            self._connection.sendall(self._after)
            response = http.client.HTTPResponse(self._connection)
            response.begin()
            return Response(response.status, json.loads(response.read()))


def cut_upload(url: str, body: bytes, at: int, *, reset: bool) -> None:
    """Send the first bytes of an upload, and go: with a reset as a crash does, or with a proper goodbye."""
    with connect(url) as connection:
        connection.sendall(request(len(body)) + body[:at])
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass
class Growth:
    """By how much a process's memory grew at its peak."""

    peak_bytes: int = 0


@contextmanager
def growing(pid: int) -> Iterator[Growth]:
    """Measures the growth over the block."""
    growth, before = Growth(), memory_bytes(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from now
    yield growth
    growth.peak_bytes = memory_bytes(pid, "VmHWM") - before


def memory_bytes(pid: int, name: str = "VmRSS") -> int:
    """How much memory a process has, or had at its peak (`VmHWM`)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(name)]
    return int(line.split()[1]) * 1024


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open, its connections to a private Redis left out: a pool that grows."""
    unix = {fields[6] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines() if (fields := line.split())}
    found = [_target(pid, number) for number in os.listdir(f"/proc/{pid}/fd")]
    return len([target for target in found if target and target.removeprefix("socket:[").rstrip("]") not in unix])


def _target(pid: int, number: str) -> str | None:
    """What a descriptor is of; None when it was closed in the meantime."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except FileNotFoundError:
        return None
