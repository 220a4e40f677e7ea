"""More connections than a process can have, in several manners."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from tests.attack.phase import Attack
from tests.attack.service import MAX_DESCRIPTORS
from tests.attack.target import Target

#: What a client may be silent for while the flood is at its height.
HELD_S = (0.5, 4.0)
REST_S = (1.0, 2.0)
STORM = 200


def floods(attack: Attack) -> None:
    held_open = {name: partial(held, attack, start) for name, start in starts(attack.target).items()}
    for flood in attack.each({**held_open, "connections that are gone at once": partial(storm, attack)}):
        flood()
        attack.wait(attack.dice.uniform(*REST_S))


def held(attack: Attack, start: bytes) -> None:
    """Twice as many connections as there are descriptors, each with the same first bytes, held for a while."""
    with crowd(attack.target, start):
        attack.wait(attack.dice.uniform(*HELD_S))


@contextmanager
def crowd(target: Target, start: bytes, size: int = 2 * MAX_DESCRIPTORS) -> Iterator[None]:
    """Connections with the same first bytes, as many as are let in, for as long as the block."""
    with ExitStack() as stack:
        for _ in range(size):
            with suppress(OSError):
                stack.enter_context(target.connect(timeout_s=0.2)).sendall(start)
        yield


def storm(attack: Attack) -> None:
    """Connections that are gone as soon as they are made, half of them with a reset."""
    for number in range(STORM):
        with suppress(OSError), attack.target.connect() as connection:
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def starts(target: Target) -> dict[str, bytes]:
    """What each connection of a crowd sends, and no more."""
    length = "Content-Length: 1000000"
    return {
        "silent connections": b"",
        "half a head each": b"GET /livez HTT",
        "a request each, then silence": target.head("GET /livez"),
        "an upload without its body each": target.head("POST /score", "Content-Type: audio/wav", length),
        "a refused upload without its body each": target.head("POST /score", "Content-Type: text/html", length),
        "an upgrade without its body each": target.head("POST /score", "Connection: Upgrade", "Upgrade: x", length),
        "long answers each, not read": target.head("GET /openapi.json") * 50,
    }
