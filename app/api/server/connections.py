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
    #: From the end that the server gave to the connection until the client has taken the rest.
    CLOSING = "closing"


#: Longest time of each phase. An answer that has begun may take as long as it likes, while its client reads.
TIMEOUTS_S: Mapping[Phase, float] = {Phase.HEAD: 10.0, Phase.ANSWER: 700.0, Phase.READING: 30.0, Phase.CLOSING: 30.0}
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
    """The open connections of a process, and those of them that wait for their clients, longest waiting first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}

    def admit(self, connection: Connection) -> bool:
        """Take a new connection, for which the one that waits longest is dropped if there are too many.

        False when there are too many, and all others are being served.
        """
        if len(self._open) >= self.limits.max_connections and not self._drop_one():
            return False
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

    def forget(self, connection: Connection) -> None:
        """Note that a connection is closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    async def sweep_forever(self) -> None:
        """End phases that have lasted too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = loop.time()
            for connection in list(self._open):
                connection.end_overdue_phases(now)

    def _drop_one(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.forget(longest)
        longest.drop()
        return True
