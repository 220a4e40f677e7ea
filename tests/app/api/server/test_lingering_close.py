"""A client that is answered before it has sent everything can read its answer; it cannot stay for that."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest
from fastapi import FastAPI

from app.api.server import connections
from app.api.server.connections import TIMEOUTS_S, ConnectionLimits, Phase
from app.api.server.protocol import MAX_PIPELINED
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import WAV
from tests.app.api.live import Live, eventually, live
from tests.app.api.server.sockets import LAST, LIVEZ, connect, exchange, statuses
from tests.app.records import running

MIB = 1024 * 1024
SOON_S = 0.2
POST = b"POST /score HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
#: More than fits between two ends of a connection, so that it does not go out before its answer comes.
BODY = bytes(12 * MIB)
DECLARED = b"Content-Length: %d\r\n\r\n" % len(BODY)
UNKNOWN_TYPE = POST + b"Content-Type: text/html\r\n" + DECLARED


@pytest.fixture
def served(app: FastAPI) -> Iterator[Live]:
    with live(app) as serving:
        yield serving


def hurried(*phases: Phase, **limits: int) -> ConnectionLimits:
    """Limits by which these phases end soon, and the others never."""
    timeouts_s: Mapping[Phase, float] = {phase: SOON_S if phase in phases else 3600.0 for phase in Phase}
    return ConnectionLimits(timeouts_s=timeouts_s, **limits)


def answer_read_last(served: Live, request: bytes) -> bytes:
    """What comes back to a client that sends everything before it reads anything."""
    with connect(served) as connection:
        connection.sendall(request)
        return rest_of(connection)


def rest_of(connection: socket.socket) -> bytes:
    return b"".join(iter(partial(connection.recv, 65536), b""))


# The answer arrives


REFUSED = {
    "by its declared length": (POST + b"Content-Type: audio/wav\r\nContent-Length: 999999999999\r\n\r\n", 413),
    "by its type": (UNKNOWN_TYPE, 415),
    "by its first bytes": (POST + b"Content-Type: audio/wav\r\n" + DECLARED + b"GIF89a", 415),
    "in chunks": (POST + b"Content-Type: text/html\r\n" + CHUNKED + b"%x\r\n" % len(BODY), 415),
    "though it asked first": (POST + b"Expect: 100-continue\r\nContent-Type: text/html\r\n" + DECLARED, 415),
    "by its path": (b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n" + DECLARED, 404),
    "by its method": (b"PUT /score HTTP/1.1\r\nHost: localhost\r\n" + DECLARED, 405),
    "as no request": (b"nonsense\r\n\r\n", 400),
    "in the middle of its body": (POST + b"Content-Type: audio/wav\r\n" + CHUNKED + b"1\r\na\r\nno size\r\n", 400),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_client_that_sends_everything_first_reads_why(served: Live, request_: bytes, status: int) -> None:
    assert statuses(answer_read_last(served, request_ + BODY)) == [status]


def test_a_client_without_a_key_that_sends_everything_first_reads_why(settings: ApiSettings, redis: object) -> None:
    with live(create_app(settings.model_copy(update={"require_api_keys": True}))) as closed:
        assert statuses(answer_read_last(closed, POST + DECLARED + BODY)) == [401]


def test_a_client_that_stalled_and_goes_on_reads_why_it_was_refused(settings: ApiSettings, redis: object) -> None:
    app = create_app(settings.model_copy(update={"upload_idle_timeout_s": SOON_S}))
    with live(app) as served, connect(served) as connection:
        connection.sendall(POST + b"Content-Type: audio/wav\r\n" + DECLARED)
        eventually(lambda: lingering(served))
        connection.sendall(BODY)
        assert statuses(rest_of(connection)) == [408]


def test_a_client_for_whom_there_is_no_room_reads_so(app: FastAPI) -> None:
    with live(app, ConnectionLimits(max_connections=1)) as served, served_for_long(served):
        answer = answer_read_last(served, POST + DECLARED + BODY)
    assert statuses(answer) == [503]
    assert b"too_many_connections" in answer


def test_what_follows_a_request_that_ends_its_connection_costs_no_answer(served: Live) -> None:
    upload = POST + b"Content-Type: text/html\r\nContent-Length: 1\r\n\r\na"
    assert statuses(answer_read_last(served, upload + LIVEZ * 1000 + BODY)) == [415]


def test_more_requests_than_are_taken_cost_no_answer_to_those_that_were(served: Live) -> None:
    upload = POST + b"Content-Type: audio/wav\r\nContent-Length: %d\r\n\r\n%s" % (len(WAV), WAV)
    answer = answer_read_last(served, upload + LIVEZ * (MAX_PIPELINED + 10) + BODY)
    assert statuses(answer) == [202] + [200] * MAX_PIPELINED


# And then it is over


def lingering(served: Live) -> int:
    return len(served.server.connections._lingering)


def is_alone(served: Live) -> bool:
    return not served.server.server_state.connections and not lingering(served)


@contextmanager
def refused(served: Live) -> Iterator[socket.socket]:
    """A client that has its answer, and does not end the connection."""
    with connect(served) as connection:
        connection.sendall(UNKNOWN_TYPE)
        assert statuses(rest_of(connection)) == [415]
        yield connection


@contextmanager
def served_for_long(served: Live) -> Iterator[socket.socket]:
    """A client that follows a job."""
    run = running(served.services.machine)
    with connect(served) as connection:
        connection.sendall(b"GET /jobs/%s/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % run.id.encode())
        assert connection.recv(65536)
        yield connection


def send(connection: socket.socket, data: bytes, *, pause_s: float = 0.0) -> int:
    """Send again and again until the server resets the connection; how many bytes that were."""
    n_bytes = 0
    with suppress(ConnectionError):
        while n_bytes < 64 * MIB:
            n_bytes += connection.send(data)
            time.sleep(pause_s)
    return n_bytes


def test_the_end_of_a_client_is_the_end_of_the_connection(app: FastAPI) -> None:
    with live(app, hurried()) as served, refused(served) as connection:
        assert lingering(served) == 1
        connection.shutdown(socket.SHUT_WR)
        eventually(partial(is_alone, served))


def test_a_client_that_sends_nothing_more_is_not_kept(app: FastAPI) -> None:
    with live(app, hurried(Phase.LINGERING)) as served, refused(served):
        eventually(partial(is_alone, served))


def test_a_client_that_sends_for_ever_is_not_kept(app: FastAPI) -> None:
    with live(app, hurried(Phase.CLOSING)) as served, refused(served) as connection:
        assert send(connection, b"a", pause_s=0.01)
        eventually(partial(is_alone, served))


def test_what_is_discarded_has_a_limit(app: FastAPI) -> None:
    with live(app, hurried()) as served, refused(served) as connection:
        assert send(connection, bytes(65536)) < 48 * MIB
        eventually(partial(is_alone, served))


def test_those_that_linger_are_few(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_LINGERING", 3)
    with live(app, hurried()) as served, ExitStack() as stack:
        first, *_ = [stack.enter_context(refused(served)) for _ in range(10)]
        assert lingering(served) == 3
        assert send(first, b"a", pause_s=0.01) < MIB


def test_those_that_linger_take_the_place_of_nobody(app: FastAPI) -> None:
    with live(app, hurried(max_connections=3)) as served, ExitStack() as stack:
        stack.enter_context(served_for_long(served))
        first, *_ = [stack.enter_context(refused(served)) for _ in range(10)]
        assert lingering(served) == 2
        assert send(first, b"a", pause_s=0.01) < MIB
        assert statuses(exchange(served, LAST)) == [200]


def test_a_client_that_sent_everything_is_not_waited_for(app: FastAPI) -> None:
    with live(app, hurried()) as served, connect(served) as connection:
        connection.sendall(LAST)
        assert statuses(rest_of(connection)) == [200]
        eventually(partial(is_alone, served))


def test_a_lingering_close_ends_within_the_time_of_any_close() -> None:
    assert TIMEOUTS_S[Phase.LINGERING] < TIMEOUTS_S[Phase.CLOSING]
