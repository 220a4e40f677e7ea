"""Bytes that no client library would send: requests that could be read as two, bad heads, trailers, pipelines."""

import socket
from collections.abc import Callable
from contextlib import suppress
from random import Random

from tests.app.api.server.test_raw_http import CHUNKED, NOT_HTTP, OFFERS, SMUGGLING
from tests.attack.phase import Attack
from tests.attack.target import Target
from tests.chaos.scripted import Script
from tests.fuzz.mutations import mutated

ATTACKERS = 6
MIB = 1 << 20
PATHS = ("GET /livez", "POST /score", "POST /batches", "GET /jobs", "GET /nowhere", "DELETE /jobs/x", "PUT /score")


def raw_http(attack: Attack) -> None:
    attack.crowd(ATTACKERS, lambda one: [act(one.target, one.dice) for act in one.each(ACTS)])


def read_as_two(target: Target, dice: Random) -> None:
    headers, body = dice.choice(list(SMUGGLING.values()))
    offer = dice.choice([b"", *OFFERS.values()])
    start = target.head(dice.choice(PATHS), "Content-Type: audio/wav")[:-2]
    target.exchange(start + offer + headers + b"\r\n\r\n" + body + target.head("GET /livez"))


def not_http(target: Target, dice: Random) -> None:
    target.exchange(dice.choice(list(NOT_HTTP.values())))


def mutated_request(target: Target, dice: Random) -> None:
    donor = target.head("GET /jobs", "Prefer: wait=1") + CHUNKED
    target.exchange(mutated(_upload(target, dice), donor, dice), timeout_s=1.0)


def random_bytes(target: Target, dice: Random) -> None:
    target.exchange(dice.randbytes(dice.randrange(1, 4096)), closes=True, timeout_s=1.0)


def endless_trailers(target: Target, dice: Random) -> None:
    """After a whole upload in chunks: lines, or one line, for as long as the other side takes them."""
    block = dice.choice([b"X-Trailer: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", b"a"]) * 4096
    _endless(target, _chunked(target, _upload(target, dice)) + b"0\r\nX: ", block)


def endless_chunk_extension(target: Target, dice: Random) -> None:
    _endless(target, target.head("POST /score", "Transfer-Encoding: chunked") + b"5;", b"a" * 65536)


def endless_head(target: Target, dice: Random) -> None:
    _endless(target, target.head(dice.choice(PATHS))[:-2], dice.choice([b"X: a\r\n", b"a"]) * 4096)


def endless_upgrade(target: Target, dice: Random) -> None:
    """A body of no end, declared beside an offer of another protocol."""
    offer = dice.choice(list(OFFERS.values())).decode().strip().split("\r\n")
    length = f"Content-Length: {1 << 40}"
    _endless(target, target.head(dice.choice(PATHS), *offer, length), bytes(65536))


def pipelined(target: Target, dice: Random) -> None:
    requests = target.head(dice.choice(["GET /livez", "GET /docs", "GET /openapi.json", "GET /jobs"]))
    target.exchange(requests * dice.randrange(50, 500), closes=True, timeout_s=1.0)


def pipelined_and_not_read(target: Target, dice: Random) -> None:
    with suppress(OSError), target.connect(receive_bytes=2048, timeout_s=1.0) as connection:
        connection.sendall(target.head("GET /openapi.json") * 1000)
        connection.recv(1)


def pipelined_uploads(target: Target, dice: Random) -> None:
    target.exchange(b"".join(_upload(target, dice) for _ in range(10)), timeout_s=2.0)


def half_closed(target: Target, dice: Random) -> None:
    request = _upload(target, dice)
    target.exchange(request[: dice.randrange(len(request) + 1)], closes=True)


def cut_with_a_reset(target: Target, dice: Random) -> None:
    request = _upload(target, dice)
    with suppress(OSError), target.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(request[: dice.randrange(len(request) + 1)])


def promised_and_not_sent(target: Target, dice: Random) -> None:
    target.exchange(target.head("POST /score", "Expect: 100-continue", "Content-Length: 1000"), timeout_s=1.0)


ACTS: dict[str, Callable[[Target, Random], None]] = {
    "one request that could be two": read_as_two,
    "not HTTP": not_http,
    "a mutated request": mutated_request,
    "random bytes": random_bytes,
    "trailers without an end": endless_trailers,
    "a chunk extension without an end": endless_chunk_extension,
    "a head without an end": endless_head,
    "an upgrade with a body without an end": endless_upgrade,
    "hundreds of requests at once": pipelined,
    "a thousand requests, answers not read": pipelined_and_not_read,
    "ten uploads at once": pipelined_uploads,
    "half closed": half_closed,
    "cut with a reset": cut_with_a_reset,
    "a body promised and not sent": promised_and_not_sent,
}


def _endless(target: Target, start: bytes, block: bytes, max_bytes: int = 64 * MIB) -> None:
    with suppress(OSError), target.connect(timeout_s=1.0) as connection:
        connection.sendall(start)
        for _ in range(max_bytes // len(block)):
            connection.sendall(block)


def _upload(target: Target, dice: Random) -> bytes:
    body = Script(f"raw-{dice.random()}").track()
    return target.head("POST /score", "Content-Type: audio/wav", f"Content-Length: {len(body)}") + body


def _chunked(target: Target, upload: bytes) -> bytes:
    body = upload.partition(b"\r\n\r\n")[2]
    head = target.head("POST /score", "Content-Type: audio/wav", "Transfer-Encoding: chunked")
    return head + b"%x\r\n%s\r\n" % (len(body), body)
