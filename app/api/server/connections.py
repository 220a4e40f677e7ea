"""Connections: how long each phase of one may last, how many there may be, and which one makes room for another."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Phase(StrEnum):
    """What a connection is waited for. A wait between two requests is limited by uvicorn's keep-alive time."""

    #: From the connection's beginning, or the first byte of a further request, until the head is complete.
    HEAD = "head"
    #: From there until the answer begins; reading the body is part of it, and has shorter limits of its own.
    ANSWER = "answer"
    #: While the client does not read what is sent to it.
    READING = "reading"
    #: From the end that the server gave to the connection until the client has taken the rest, and has ended it too.
    CLOSING = "closing"
    #: Within that, while the client sends nothing more of a request that was answered before its end.
    LINGERING = "lingering"


#: Longest time of each phase. An answer that has begun may take as long as it likes, while its client reads.
TIMEOUTS_S: Mapping[Phase, float] = {
    Phase.HEAD: 10.0,
    Phase.ANSWER: 700.0,
    Phase.READING: 30.0,
    Phase.CLOSING: 30.0,
    Phase.LINGERING: 5.0,
}
#: Connections that have had their last answer and may still be sending.
MAX_LINGERING = 64
#: How often phases that have lasted too long are looked for.
SWEEP_EVERY_S = 0.5


@dataclass(frozen=True)
class ConnectionLimits:
    """What clients may take of one process. `max_body_bytes` is for bodies that nobody else counts."""

    max_connections: int = 2000
    max_body_bytes: int = 1024**3
    timeouts_s: Mapping[Phase, float] = field(default_factory=lambda: TIMEOUTS_S)


class Connection(Protocol):
    """One connection, as far as it is limited here."""

    def end_overdue_phases(self, now: float) -> None:
        """End what has lasted too long. `now` is the event loop's time."""

    def drop(self) -> None:
        """Close at once, for another connection."""


class Connections:
    """The open connections of a process, and those of them that wait for their clients, longest waiting first.

    Those that linger are a few, and the first to make room: each has had its answer.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}
        self._lingering: dict[Connection, None] = {}

    def admit(self, connection: Connection) -> bool:
        """Take a new connection, for which the one that waits longest is dropped if there are too many.

        False when there are too many, and all others are being served.
        """
        if len(self._open) >= self.limits.max_connections and not self._drop_first(self._waiting):
            return False
        if len(self._open) + len(self._lingering) >= self.limits.max_connections:
            self._drop_first(self._lingering)
        self._open.add(connection)
        self.wait(connection)
        return True

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits for its client from now on, unless it did already."""
        if connection in self._open:
            self._waiting[connection] = None

    def serve(self, connection: Connection) -> None:
        """Note that a connection is being served: it is not dropped for another."""
        self._waiting.pop(connection, None)

    def linger(self, connection: Connection) -> None:
        """Note that a connection has had its last answer, and is kept only until its client ends it."""
        self.forget(connection)
        self._lingering[connection] = None
        if len(self._lingering) > MAX_LINGERING:
            self._drop_first(self._lingering)

    def forget(self, connection: Connection) -> None:
        """Note that a connection is closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._lingering.pop(connection, None)

    async def sweep_forever(self) -> None:
        """End phases that have lasted too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = loop.time()
            for connection in [*self._open, *self._lingering]:
                connection.end_overdue_phases(now)

    def _drop_first(self, connections: Mapping[Connection, None]) -> bool:
        first = next(iter(connections), None)
        if first is None:
            return False
        self.forget(first)
        first.drop()
        return True
