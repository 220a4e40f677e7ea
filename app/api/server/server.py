"""uvicorn's server with this service's protocol, and with a stop in steps.

First it is a lame duck: `/readyz` says that it is not ready and each answer ends its connection, but its port is open,
so that load balancers can turn away from it before they meet a closed one. Then the port is closed, requests that only
wait are ended, and others may go on for a time. A further signal ends the step that the stop has come to.
"""

import asyncio
import socket
import time
from collections.abc import Collection
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.api.server.connections import ConnectionLimits, Connections
from app.api.server.protocol import Protocol
from app.core.signals import STOP_SIGNALS

CLOSE = (b"connection", b"close")
POLL_S = 0.1
#: After its request was cut, a connection has so long to take the answer.
CUT_S = 0.5


class Server(uvicorn.Server):
    """Serves the application within the limits. Further options are uvicorn's.

    lame_duck_s, drain_timeout_s : how long the steps of a stop take at most
    hurry_signals : what ends a step of the stop once it has begun
    """

    def __init__(
        self,
        app: FastAPI,
        limits: ConnectionLimits,
        *,
        lame_duck_s: float = 0.0,
        drain_timeout_s: float | None = None,
        hurry_signals: Collection[int] = STOP_SIGNALS,
        **options: Any,
    ) -> None:
        self.connections = Connections(limits)
        protocol: Any = partial(Protocol, connections=self.connections)
        super().__init__(
            uvicorn.Config(
                app, http=protocol, ws="none", log_config=None, access_log=False, server_header=False, **options
            )
        )
        self.drain_timeout_s = drain_timeout_s
        self.notifications = app.state.services.notifications
        self.readiness = app.state.services.readiness
        self._lame_duck_s = lame_duck_s
        self._hurry_signals = hurry_signals
        self._stopping_since: float | None = None
        self._draining = False
        self._hurried = False
        self._sweeper: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the stop, or end its present step. Called by a signal."""
        if not self.should_exit:
            super().handle_exit(sig, frame)
        elif sig in self._hurry_signals and self._draining:
            self._hurried = True
        elif sig in self._hurry_signals:
            self._lame_duck_s = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeper = asyncio.create_task(self.connections.sweep_forever(), name="deadlines of connections")

    async def on_tick(self, counter: int) -> bool:
        """Whether the port is to be closed now. uvicorn calls this ten times a second."""
        if not await super().on_tick(counter):
            return False
        self.readiness.stopping = True
        if CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        self._stopping_since = self._stopping_since or time.monotonic()
        return time.monotonic() >= self._stopping_since + self._lame_duck_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining = True
        self.notifications.stop()  # they would use up the time that uploads have to finish
        drain = asyncio.create_task(self._end_drain(), name="end of the drain")
        await super().shutdown(sockets)
        for task in (drain, self._sweeper):
            if task:
                task.cancel()

    async def _end_drain(self) -> None:
        """Cut what goes on for too long, or when the stop is hurried: its requests are answered with an error."""
        deadline = None if self.drain_timeout_s is None else time.monotonic() + self.drain_timeout_s
        while not self._hurried and (deadline is None or time.monotonic() < deadline):
            await asyncio.sleep(POLL_S)
        for request in list(self.server_state.tasks):
            request.cancel()
        await asyncio.sleep(CUT_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
