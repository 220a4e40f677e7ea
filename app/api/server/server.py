"""uvicorn's server, which ends waiting requests as soon as it is asked to stop."""

import socket

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    """Ends long polls and event streams first: they would use up the time that uploads have to finish."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.notifications = app.state.services.notifications

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.notifications.stop()
        await super().shutdown(sockets)
