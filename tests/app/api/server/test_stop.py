"""A server that is told to stop: first it says so, then it closes its port, then it waits for what goes on."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from fastapi import FastAPI

from app.api.server.server import Server
from tests.app.api.live import Live, eventually, live
from tests.app.api.server.sockets import LIVEZ, connect, exchange, statuses

HALF_AN_UPLOAD = (
    b"POST /score/raw HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: 5000\r\n\r\nRIFF"
)
#: Longer than any test: only a further signal ends such a step.
LONG_S = 3600.0


def stop(served: Live, signum: signal.Signals = signal.SIGTERM) -> None:
    served.server.handle_exit(signum, None)


def readiness(served: Live) -> httpx.Response:
    return httpx.get(f"{served.url}/readyz", headers={"Connection": "keep-alive"})


def test_a_lame_duck_is_not_ready_and_serves_on_connections_that_it_ends(app: FastAPI) -> None:
    with live(app, lame_duck_s=LONG_S) as served, connect(served) as kept:
        kept.sendall(LIVEZ)
        assert b"connection: close" not in kept.recv(65536).lower()
        stop(served)
        eventually(lambda: readiness(served).status_code == 503)
        assert readiness(served).json()["checks"]["server"]["detail"] == "The server is stopping."
        kept.sendall(LIVEZ)
        answer = kept.recv(65536)
        assert b"200 OK" in answer
        assert b"connection: close" in answer.lower()
        assert kept.recv(1) == b""
        assert statuses(exchange(served, LIVEZ)) == [200]
        stop(served)
        served.thread.join(60)
        assert not served.thread.is_alive()


def test_without_that_time_the_port_is_closed_at_once(app: FastAPI) -> None:
    with live(app) as served, upload(served) as connection:
        stop(served)
        eventually(lambda: refuses(served))
        assert connection.fileno() > 0
        stop(served)


def test_an_upload_that_a_hurried_stop_cuts_is_answered(app: FastAPI) -> None:
    with live(app, drain_timeout_s=LONG_S) as served, upload(served) as connection:
        stop(served)
        eventually(lambda: refuses(served))
        stop(served)
        assert statuses(connection.recv(65536)) == [503]


def test_an_upload_may_go_on_for_a_time(app: FastAPI) -> None:
    with live(app, drain_timeout_s=0.5) as served, upload(served) as connection:
        stop(served)
        assert statuses(connection.recv(65536)) == [503]
        served.thread.join(60)
        assert not served.thread.is_alive()


def test_what_hurries_others_may_be_nothing_to_a_server(app: FastAPI) -> None:
    server = Server(app, limits=None, hurry_signals=[signal.SIGINT], lame_duck_s=LONG_S)  # type: ignore[arg-type]
    for _ in range(3):
        server.handle_exit(signal.SIGTERM, None)
    assert server._lame_duck_s == LONG_S
    server.handle_exit(signal.SIGINT, None)
    assert server._lame_duck_s == 0.0


@contextmanager
def upload(served: Live) -> Iterator[socket.socket]:
    """A connection whose upload has begun."""
    with connect(served) as connection:
        connection.sendall(HALF_AN_UPLOAD)
        eventually(lambda: served.server.server_state.tasks)
        yield connection


def refuses(served: Live) -> bool:
    """Whether nobody listens at the port any more."""
    with socket.socket() as connection:
        return connection.connect_ex(served.address) != 0
