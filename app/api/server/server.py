"""Server: uvicorn, which hangs up on those who only wait as soon as it is told to stop."""

import socket

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    """Ends waits and event streams first: they would outlast the time that uploads have to finish."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.notifications = app.state.services.notifications

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.notifications.stop()
        await super().shutdown(sockets)
