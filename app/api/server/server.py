"""uvicorn's server with this service's protocol, which ends waiting requests as soon as it is asked to stop."""

import asyncio
import socket
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.api.server.connections import ConnectionLimits, Connections
from app.api.server.protocol import Protocol


class Server(uvicorn.Server):
    """Serves the application within the limits. Further options are uvicorn's.

    Long polls and event streams end first when it stops: they would use up the time that uploads have to finish.
    """

    def __init__(self, app: FastAPI, limits: ConnectionLimits, **options: Any) -> None:
        self.connections = Connections(limits)
        protocol: Any = partial(Protocol, connections=self.connections)
        super().__init__(
            uvicorn.Config(
                app, http=protocol, ws="none", log_config=None, access_log=False, server_header=False, **options
            )
        )
        self.notifications = app.state.services.notifications
        self._sweeper: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeper = asyncio.create_task(self.connections.sweep_forever(), name="deadlines of connections")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.notifications.stop()
        await super().shutdown(sockets)
        if self._sweeper:
            self._sweeper.cancel()
