"""Clients that send a byte now and then, that stop, and that never read what they asked for."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tests.attack.phase import Attack
from tests.attack.target import ATTACKERS, Target
from tests.chaos.scripted import Script

#: Open at a time; fewer than would use up the descriptors.
CLIENTS = 120
STEP_S = 0.2
#: A job that runs for a while, to be followed.
RUN_S = 20.0
TENANT = ATTACKERS[1]


@dataclass
class Slow:
    """A connection and what it sends, a piece at each step; an empty piece is silence."""

    connection: socket.socket
    pieces: Iterator[bytes]

    def step(self) -> bool:
        """Send the next piece; False when the other side has hung up."""
        try:
            self.connection.send(next(self.pieces))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def slow_clients(attack: Attack) -> None:
    job_id = _job_that_runs(attack)
    pieces = iter(attack.each(kinds(attack.target, job_id)))
    slow: list[Slow] = []
    try:
        while attack.goes_on():
            while len(slow) < CLIENTS and (kind := next(pieces, None)):
                with suppress(OSError):
                    slow.append(_opened(attack.target, _then(*kind)))
            left = [one for one in slow if not one.step()]
            for one in left:
                one.connection.close()
                slow.remove(one)
            attack.wait(STEP_S)
    finally:
        for one in slow:
            one.connection.close()


def _opened(target: Target, pieces: Iterator[bytes]) -> Slow:
    connection = target.connect(receive_bytes=2048)
    connection.setblocking(False)
    return Slow(connection, pieces)


def _job_that_runs(attack: Attack) -> str:
    with attack.target.client(TENANT) as client:
        script = Script(f"followed-{attack.dice.random()}", run_s=RUN_S, n_segments=100)
        return attack.target.submit(client, script) or "job_" + "0" * 32


def _then(start: bytes, after: bytes) -> Iterator[bytes]:
    """The beginning, and then one and the same for ever; an empty one is silence."""
    yield start
    while True:
        yield after


def kinds(target: Target, job_id: str) -> dict[str, tuple[bytes, bytes]]:
    """What each kind of client sends at first, and then at each step. The job is one to follow."""
    upload = partial(target.head, "POST /score", "Content-Type: audio/wav")
    form = target.head("POST /batches", "Content-Type: multipart/form-data; boundary=b", "Content-Length: 9999999")
    length, chunks = "Content-Length: 1000000", "Transfer-Encoding: chunked"
    return {
        "nothing": (b"", b""),
        "a head, byte by byte": (b"GET /livez HTTP/1.1\r\n", b"X"),
        "a head of endless lines": (upload()[:-2], b"X: a\r\n"),
        "a head, and no body": (upload(length), b""),
        "a body, byte by byte": (upload(length), b"R"),
        "chunks of a byte": (upload(chunks), b"1\r\nR\r\n"),
        "trailers of a line": (upload(chunks) + b"4\r\nRIFF\r\n0\r\n", b"X: a\r\n"),
        "a form, byte by byte": (form, b"-"),
        "an upgrade and a body, byte by byte": (upload("Connection: Upgrade", "Upgrade: websocket", length), b"R"),
        "a refused upload, byte by byte": (target.head("POST /score", "Content-Type: text/html", length), b"a"),
        "a refused upload, and silence": (target.head("POST /nowhere", length), b""),
        "what is no request, without an end": (b"nonsense\r\n\r\n", b"a" * 4096),
        "a long poll": (target.head(f"GET /jobs/{job_id}?wait=30", tenant=TENANT), b""),
        "events, not read": (target.head(f"GET /jobs/{job_id}/events", tenant=TENANT), b""),
        "answers, not read": (target.head("GET /openapi.json") * 20, b""),
        "requests without an end, not read": (b"", target.head("GET /docs")),
        "a request, and silence": (target.head("GET /livez"), b""),
    }
