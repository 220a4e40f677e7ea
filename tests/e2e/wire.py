"""Uploads sent byte by byte over a socket, as no HTTP library would send them, and what a process holds meanwhile."""

import http.client
import json
import os
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Begins like a WAV file and is none, so that its job ends soon.
NO_WAV = b"RIFF\xff\xff\xff\x7fWAVEfmt " + bytes(range(256))
BLOCK = bytes(1024 * 1024)
BOUNDARY = "b0undary"


@dataclass
class Answer:
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
        f"POST /score HTTP/1.1\r\nHost: test\r\nContent-Type: {media_type}\r\nContent-Length: {body_bytes}\r\n\r\n"
    ).encode()


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=60)


def upload(url: str, n_bytes: int) -> Answer:
    """Send a file of a size that nobody wants to hold in memory."""
    before, after = form(b"|").split(b"|")
    n_blocks = n_bytes // len(BLOCK)
    with connect(url) as connection:
        length = len(before) + len(NO_WAV) + n_blocks * len(BLOCK) + len(after)
        connection.sendall(request(length) + before + NO_WAV)
        for _ in range(n_blocks):
            connection.sendall(BLOCK)
        connection.sendall(after)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Answer(response.status, json.loads(response.read()))


def cut_upload(url: str, body: bytes, at: int, *, reset: bool) -> None:
    """Send the first bytes of an upload, and go: with a reset as a crash does, or with a proper goodbye."""
    with connect(url) as connection:
        connection.sendall(request(len(body)) + body[:at])
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass
class Watch:
    """How a service does while something happens to it."""

    livez_s: list[float] = field(default_factory=list)
    grown_bytes: int = 0

    @property
    def livez_p99_s(self) -> float:
        return statistics.quantiles(self.livez_s, n=100)[98]


@contextmanager
def watching(url: str, pid: int) -> Iterator[Watch]:
    """Ask for `/livez` all the time, and measure by how much the process's memory grew at its peak."""
    watch, stop = Watch(), threading.Event()
    thread = threading.Thread(target=_ask_livez, args=(url, watch, stop))
    before = _memory_bytes(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from now
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()
    watch.grown_bytes = _memory_bytes(pid, "VmHWM") - before


def _ask_livez(url: str, watch: Watch, stop: threading.Event) -> None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    while not stop.is_set():
        began = time.perf_counter()
        connection.request("GET", "/livez")
        assert connection.getresponse().read()
        watch.livez_s.append(time.perf_counter() - began)
        time.sleep(0.005)
    connection.close()


def _memory_bytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(name)]
    return int(line.split()[1]) * 1024


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
