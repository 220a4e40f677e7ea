"""Every phase of a connection ends, however its client behaves, and no bytes are kept without a limit."""

import json
import logging
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import anyio
import pytest
from fastapi import FastAPI, Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.server.connections import TIMEOUTS_S, ConnectionLimits, Phase
from app.api.server.protocol import MAX_FRAMING_BYTES, MAX_PIPELINED, Protocol
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import WAV
from tests.app.api.live import Live, eventually, live
from tests.app.api.server.sockets import LAST, LIVEZ, connect, exchange, statuses
from tests.app.records import RESULT, running
from tests.conftest import KEYS

MIB = 1024 * 1024
SOON_S = 0.2
#: More than what fits between two ends of a connection.
LARGE = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30
HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(WAV), WAV)


@pytest.fixture
def app(settings: ApiSettings, redis: object) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def served(app: FastAPI) -> Iterator[Live]:
    with live(app) as serving:
        yield serving


def hurried(*phases: Phase) -> ConnectionLimits:
    """Limits by which these phases end soon."""
    timeouts_s: Mapping[Phase, float] = {**TIMEOUTS_S, **dict.fromkeys(phases, SOON_S)}
    return ConnectionLimits(timeouts_s=timeouts_s)


def is_alone(served: Live) -> bool:
    return not served.server.server_state.connections and not served.server.server_state.tasks


def sent_before_the_end(
    served: Live, beginning: bytes, block: bytes, *, at_most: int = 64 * MIB, pause_s: float = 0.0
) -> int:
    """How many bytes can be sent until the server closes the connection."""
    n_bytes = 0
    with connect(served) as connection:
        try:
            connection.sendall(beginning)
            while n_bytes < at_most:
                n_bytes += connection.send(block)
                time.sleep(pause_s)
        except ConnectionError:
            return n_bytes
    return n_bytes


# Bytes that are neither head nor body

ENDLESS = {
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
    "one trailer": (CHUNKED + b"0\r\nX: ", b"a" * 64 * 1024),
    "the name of a trailer": (CHUNKED + b"0\r\n", b"a" * 64 * 1024),
    "a chunk's extension": (CHUNKED + b"1;x=", b"a" * 64 * 1024),
    "a chunk's quoted extension": (CHUNKED + b'1;x="', b"a" * 64 * 1024),
    "digits of a chunk's size": (CHUNKED, b"0" * 64 * 1024),
    "empty lines": (LIVEZ, b"\r\n" * 32 * 1024),
}


@pytest.mark.parametrize(("beginning", "block"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_belongs_to_no_head_and_no_body_is_not_read_for_ever(served: Live, beginning: bytes, block: bytes) -> None:
    assert sent_before_the_end(served, beginning, block) < 32 * MIB
    eventually(partial(is_alone, served))


def test_trailers_of_a_few_kilobytes_are_taken_and_ignored(served: Live) -> None:
    trailers = b"Idempotency-Key: k\r\nX-Checksum: %s\r\n" % (b"a" * (MAX_FRAMING_BYTES - 100))
    answer = exchange(served, CHUNKED + b"0\r\n" + trailers + b"\r\n" + LAST)
    assert statuses(answer) == [202, 200]


@pytest.mark.parametrize("n_fields", [1, 2000])
def test_longer_trailers_are_refused(served: Live, n_fields: int) -> None:
    trailers = b"X: %s\r\n" % (b"a" * (2 * MAX_FRAMING_BYTES // n_fields)) * n_fields
    answer = exchange(served, CHUNKED + b"0\r\n" + trailers + b"\r\n")
    assert statuses(answer) == [400]
    assert b"trailers" in answer


def test_a_trailer_is_no_header(app: FastAPI) -> None:
    async def header_names(request: Request) -> list[str]:
        await request.body()
        return list(request.headers)

    app.add_api_route("/names", header_names, methods=["POST"])
    with live(app) as served:
        request = b"POST /names HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = exchange(served, request + b"0\r\nX-API-Key: a\r\n\r\n")
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2]) == ["host", "connection", "transfer-encoding"]


def test_a_body_that_nobody_asked_for_is_not_read_for_ever(app: FastAPI) -> None:
    with live(app, ConnectionLimits(max_body_bytes=MIB)) as served:
        run = running(served.services.machine)
        head = (
            b"GET /jobs/%s/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n" % run.id.encode()
        )
        assert sent_before_the_end(served, head, bytes(64 * 1024)) < 32 * MIB
        eventually(partial(is_alone, served))


# Requests that come before their predecessors are answered


@pytest.mark.parametrize("request_", [LIVEZ, b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"])
def test_requests_that_come_at_once_are_answered_one_and_all(served: Live, request_: bytes) -> None:
    answers = exchange(served, request_ * 300 + LAST)
    assert len(statuses(answers)) == 301
    assert answers.count(b"connection: close") == 1


def test_requests_whose_answers_are_read_late_are_answered_one_and_all(served: Live) -> None:
    with connect(served) as connection:
        for _ in range(200):
            connection.sendall(LARGE[: len(LARGE) // 30])
        time.sleep(SOON_S)
        connection.sendall(LAST)
        answers = b"".join(iter(partial(connection.recv, 65536), b""))
    assert statuses(answers) == [200] * 201


def test_requests_behind_a_body_are_not_kept_beyond_a_few(served: Live) -> None:
    answer = exchange(served, CHUNKED + b"0\r\n\r\n" + LIVEZ * (MAX_PIPELINED + 10))
    assert statuses(answer) == [202] + [200] * MAX_PIPELINED
    assert answer.count(b"connection: close") == 1
    assert b"connection: close" in answer.rpartition(b"HTTP/1.1")[2]


def test_requests_are_not_kept_by_the_megabyte_while_the_first_waits(served: Live) -> None:
    run = running(served.services.machine)
    n_bytes = 0
    with connect(served) as connection, suppress(TimeoutError):
        connection.settimeout(1.0)
        connection.sendall(LIVEZ.replace(b"/livez", b"/jobs/%s?wait=300" % run.id.encode()))
        while n_bytes < 64 * MIB:
            n_bytes += connection.send(LIVEZ * 1000)
    assert n_bytes < 32 * MIB


def test_what_follows_a_request_does_not_take_its_answer(served: Live) -> None:
    upload = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(WAV), WAV)
    assert statuses(exchange(served, upload + b"nonsense\r\n\r\n")) == [202]
    assert statuses(exchange(served, upload + CHUNKED + b"nonsense\r\n")) == [202]
    assert statuses(exchange(served, b"nonsense\r\n\r\n")) == [400]


def test_what_follows_a_stream_of_events_is_not_answered_within_it(served: Live) -> None:
    with following(served) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        time.sleep(SOON_S)
        finish(served)
        answer = rest_of(connection)
    assert b"job.succeeded" in answer
    assert statuses(answer) == []


# Phases that do not end by themselves


def test_what_the_protocol_overrides_is_there_in_uvicorn() -> None:
    """Some of it is private there: a new version may call it otherwise."""
    overridden = {"_start_asgi_task", "_unset_keepalive_if_required", "on_response_complete", "send_400_response"}
    overridden |= {name for name in vars(Protocol) if re.fullmatch("on_.*|.*_(made|lost|received|writing)", name)}
    assert len(overridden) > 10
    assert overridden <= set(vars(HttpToolsProtocol))


def test_empty_lines_do_not_keep_an_idle_connection(app: FastAPI) -> None:
    with live(app) as served:
        served.server.config.timeout_keep_alive = 1
        assert sent_before_the_end(served, LIVEZ, b"\r\n", at_most=1200, pause_s=0.05) < 1200


def test_answers_that_are_not_read_end_their_connection(app: FastAPI) -> None:
    with live(app, hurried(Phase.READING)) as served, connect(served) as connection:
        connection.sendall(LARGE)
        eventually(lambda: served.server.server_state.tasks)
        eventually(partial(is_alone, served))


def test_a_last_answer_that_is_not_read_does_not_keep_its_connection(app: FastAPI) -> None:
    with live(app, hurried(Phase.CLOSING)) as served, connect(served) as connection:
        served.server.config.timeout_keep_alive = 1
        connection.sendall(LARGE[: len(LARGE) // 30].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        eventually(partial(is_alone, served))


def test_a_request_without_an_answer_is_cut_and_logged(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    async def never() -> None:
        await anyio.sleep(3600)

    app.add_api_route("/never", never)
    with live(app, hurried(Phase.ANSWER)) as served:
        assert exchange(served, LIVEZ.replace(b"/livez", b"/never")) == b""
        eventually(lambda: not served.server.server_state.connections)
        cancel_requests(served)
    assert "no answer for" in caplog.text


def test_an_answer_that_is_cancelled_halfway_is_cut_without_a_traceback(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    with live(app) as served, following(served) as connection:
        cancel_requests(served)
        assert not rest_of(connection).endswith(b"0\r\n\r\n")
    assert [record for record in caplog.records if record.exc_info] == []


def test_an_answer_that_has_begun_may_take_its_time(app: FastAPI) -> None:
    with live(app, hurried(*Phase)) as served, following(served) as connection:
        time.sleep(1.5)
        finish(served)
        assert b"job.succeeded" in rest_of(connection)


# Too many connections


def test_one_connection_more_takes_the_place_of_the_one_that_waits_longest(app: FastAPI) -> None:
    with live(app, ConnectionLimits(max_connections=5)) as served, ExitStack() as stack:
        silent, *others = [stack.enter_context(connect(served)) for _ in range(5)]
        others[0].sendall(LIVEZ[:10])
        others[1].sendall(LIVEZ)
        assert others[1].recv(65536)
        assert statuses(exchange(served, LAST)) == [200]
        assert silent.recv(65536) == b""
        others[2].sendall(LIVEZ)
        assert statuses(others[2].recv(65536)) == [200]


def test_idle_connections_shut_nobody_out(app: FastAPI) -> None:
    with live(app, ConnectionLimits(max_connections=8)) as served, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(served)).sendall(LIVEZ[:20])
        assert statuses(exchange(served, LAST)) == [200]


def test_clients_that_do_not_read_shut_nobody_out(app: FastAPI) -> None:
    with live(app, ConnectionLimits(max_connections=8)) as served, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connect(served)).sendall(LARGE)
        eventually(lambda: len(served.server.connections._waiting) == 8)
        assert statuses(exchange(served, LAST)) == [200]


def test_without_any_that_waits_the_new_connection_is_sent_away(app: FastAPI) -> None:
    with live(app, ConnectionLimits(max_connections=3)) as served, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(following(served))
        answer = exchange(served, b"")
        assert statuses(answer) == [503]
        assert b"too_many_connections" in answer
        assert re.search(rb"retry-after: \d+\r\n", answer)
        finish(served)
        eventually(lambda: statuses(exchange(served, LAST)) == [200])


# Clients that leave


@pytest.mark.parametrize("politely", [True, False])
def test_a_client_that_leaves_in_the_middle_of_anything_leaves_no_traceback(
    app: FastAPI, caplog: pytest.LogCaptureFixture, politely: bool
) -> None:
    caplog.set_level(logging.WARNING)
    with live(app) as served:
        run = running(served.services.machine)
        job = LIVEZ.replace(b"/livez", b"/jobs/" + run.id.encode())
        wait, events = job.replace(b" HTTP", b"?wait=30 HTTP"), job.replace(b" HTTP", b"/events HTTP")
        awaited = HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        several = (wait + LIVEZ, events + LIVEZ * 3, events + CHUNKED)
        for request in (LARGE, wait, events, CHUNKED, awaited, *several):
            leave(served, request, politely=politely)
        eventually(partial(is_alone, served))
        assert served.services.notifications._count == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []


def leave(served: Live, request: bytes, *, politely: bool) -> None:
    """Send a request, and leave when it is being answered: with an end, or with a reset."""
    with connect(served) as connection:
        connection.sendall(request)
        time.sleep(SOON_S)
        if not politely:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cancel_requests(served: Live) -> None:
    """What the server does with requests that outlast its shutdown."""
    for task in list(served.server.server_state.tasks):
        served.server.servers[0].get_loop().call_soon_threadsafe(task.cancel)


@contextmanager
def following(served: Live) -> Iterator[socket.socket]:
    """A client that receives the events of a job that runs."""
    run = running(served.services.machine)
    with connect(served) as connection:
        connection.sendall(LIVEZ.replace(b"/livez", b"/jobs/%s/events" % run.id.encode()))
        received = b""
        while b"job.snapshot" not in received:
            received += connection.recv(65536)
        yield connection


def finish(served: Live) -> None:
    """End every job that runs."""
    machine = served.services.machine
    for run in machine.store.get_many(UnfinishedJobs(machine.redis, KEYS).ids()):
        assert run
        machine.succeed(run, result=RESULT)


def rest_of(connection: socket.socket) -> bytes:
    answer = b""
    connection.settimeout(60)
    while b"job.succeeded" not in answer or not answer.endswith(b"0\r\n\r\n"):
        received = connection.recv(65536)
        if not received:
            break
        answer += received
    return answer
