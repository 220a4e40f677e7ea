"""Bytes that no client library would send, against a real server: refused, never misread, and never kept."""

import http.client
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.api.server.connections import TIMEOUTS_S, ConnectionLimits, Phase
from app.api.server.protocol import MAX_PIPELINED
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.json_types import Json
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import FORM, WAV, track_form
from tests.app.api.live import Live, eventually, live
from tests.app.api.server.sockets import LAST, LIVEZ, connect, exchange, statuses
from tests.conftest import KEYS, audio_files

#: A full run sends a thousand: N_ABORTS=1000.
N_ABORTS = int(os.environ.get("N_ABORTS", "60"))
N_STALLED = 200
IDLE_S = 2.0
HEAD_S = 1.0


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.fixture
def served(settings: ApiSettings, redis: object) -> Iterator[Live]:
    app: FastAPI = create_app(settings.model_copy(update={"upload_idle_timeout_s": IDLE_S}))
    with live(app, ConnectionLimits(timeouts_s={**TIMEOUTS_S, Phase.HEAD: HEAD_S})) as serving:
        yield serving
        assert audio_files(serving.services.settings.audio_dir) == []


@pytest.fixture
def closed(settings: ApiSettings, redis: object) -> Iterator[Live]:
    with live(create_app(settings.model_copy(update={"require_api_keys": True}))) as serving:
        yield serving


# One request that could be read as two

SMUGGLING = {
    "a length and chunks": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\nContent-Length: 5", CHUNKED),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 6", b"hello"),
    "one length twice": (b"Content-Length: 5\r\nContent-Length: 5", b"hello"),
    "a list of lengths": (b"Content-Length: 5, 5", b"hello"),
    "a negative length": (b"Content-Length: -1", b"hello"),
    "a signed length": (b"Content-Length: +5", b"hello"),
    "a hexadecimal length": (b"Content-Length: 0x5", b"hello"),
    "a length of 40 digits": (b"Content-Length: " + b"9" * 40, b"hello"),
    "a length with a space": (b"Content-Length: 5 5", b"hello"),
    "no digits for a length": (b"Content-Length: ", b"hello"),
    "an unknown coding": (b"Transfer-Encoding: xchunked", CHUNKED),
    "a coding behind chunks": (b"Transfer-Encoding: chunked, identity", CHUNKED),
    "two codings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CHUNKED),
    "a folded coding": (b"Transfer-Encoding:\r\n chunked", CHUNKED),
    "a folded header": (b"X: a\r\n Content-Length: 5", b"hello"),
    "a space before the colon": (b"Content-Length : 5", b"hello"),
    "a space before the other colon": (b"Transfer-Encoding : chunked", CHUNKED),
    "a bare carriage return": (b"X: a\rContent-Length: 5", b"hello"),
    "a NUL": (b"X: a\0b\r\nContent-Length: 5", b"hello"),
    "a chunk of 0x5": (b"Transfer-Encoding: chunked", b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a negative chunk": (b"Transfer-Encoding: chunked", b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk beyond 64 bits": (b"Transfer-Encoding: chunked", b"F" * 17 + b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk without its end": (b"Transfer-Encoding: chunked", b"5\r\nhelloXX0\r\n\r\n"),
    "chunks ended by line feeds": (b"Transfer-Encoding: chunked", b"5\nhello\n0\n\n"),
    "a space behind a chunk's size": (b"Transfer-Encoding: chunked", b"5 \r\nhello\r\n0\r\n\r\n"),
    "a length behind the chunks": (b"Transfer-Encoding: chunked", CHUNKED[:-2] + b"Content-Length: 99\r\n\r\n"),
}


@pytest.mark.parametrize(("headers", "body"), SMUGGLING.values(), ids=SMUGGLING.keys())
def test_a_request_that_could_be_read_as_two_is_refused_and_its_connection_closed(
    served: Live, headers: bytes, body: bytes
) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n" + headers + b"\r\n\r\n"
    answer = exchange(served, head + body + LIVEZ)
    assert statuses(answer) == [400]
    assert b"alive" not in answer


NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /livez HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tab": b"GET\t/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "line feeds": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "a path without a slash": b"GET @evil/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    "one host twice": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "a host in the path, and another": b"GET http://evil/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a host in the path alone": b"GET http://localhost/livez HTTP/1.0\r\n\r\n",
    "a user in the path": b"GET http://user@localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of 100 kB": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a head without an end": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 500_000,
    "a header without an end": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000,
}


@pytest.mark.parametrize("request_", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_what_is_not_http_is_refused_and_its_connection_closed(served: Live, request_: bytes) -> None:
    assert set(statuses(exchange(served, request_))) <= {400}


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"GET http://LOCALHOST/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /livez?http://evil/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_old_and_unusual_forms_of_a_request_are_served(served: Live, request_: bytes) -> None:
    assert statuses(exchange(served, request_)) == [200]


@pytest.mark.parametrize(("version", "answers"), [("1.1", [100, 202]), ("1.0", [202])])
def test_only_a_client_that_may_know_of_it_is_told_to_continue(served: Live, version: str, answers: list[int]) -> None:
    head = upload(b"Expect: 100-continue\r\nConnection: close\r\n").replace(b"HTTP/1.1", b"HTTP/" + version.encode())
    answer = exchange(served, head)
    assert statuses(answer) == answers
    served.services.storage.delete(json.loads(answer.rpartition(b"\r\n\r\n")[2])["id"])


# Offers of another protocol, which are not taken up

OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n",
    "websocket": b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "an unknown one": b"connection: upgrade\r\nupgrade: IRC/6.9, RTA/x11\r\n",
    "two": b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
    "one, and the end": b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n",
    "one to nobody": b"Upgrade: h2c\r\n",
}
offers = pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())


def upload(offer: bytes, *, chunk_size: int = 0) -> bytes:
    """A raw upload, in chunks of that size or with a declared length."""
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n" + offer
    if not chunk_size:
        return head + b"Content-Length: %d\r\n\r\n" % len(WAV) + WAV
    chunks = [WAV[start : start + chunk_size] for start in range(0, len(WAV), chunk_size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + framed


@offers
@pytest.mark.parametrize("chunk_size", [0, 1000], ids=["by length", "in chunks"])
def test_a_request_that_offers_an_upgrade_is_served_body_and_all(served: Live, offer: bytes, chunk_size: int) -> None:
    request = upload(offer, chunk_size=chunk_size)
    end_of_head = request.index(b"\r\n\r\n") + 4
    for cut in (len(request), 40, end_of_head - 2, end_of_head, end_of_head + 1, -1):
        with connect(served) as connection:
            connection.sendall(request[:cut])
            time.sleep(0.02)
            connection.sendall(request[cut:])
            job = answered_json(connection)
        assert job["audio"]["bytes"] == len(WAV)
        served.services.storage.delete(job["id"])


def answered_json(connection: socket.socket) -> Json:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.status == 202
    body: Json = json.loads(answer.read())
    return body


@offers
def test_what_follows_a_request_that_offers_an_upgrade_is_a_request(served: Live, offer: bytes) -> None:
    asked = LIVEZ.replace(b"Host: localhost\r\n", b"Host: localhost\r\n" + offer)
    n_served = 1 if b"close" in offer else 3
    assert statuses(exchange(served, asked + asked + LAST)) == [200] * n_served


def test_many_offers_in_one_packet_are_nothing_special(served: Live) -> None:
    asked = LIVEZ.replace(b"\r\n\r\n", b"\r\n" + OFFERS["an unknown one"] + b"\r\n")
    assert statuses(exchange(served, asked * MAX_PIPELINED + LAST)) == [200] * (MAX_PIPELINED + 1)


@pytest.mark.parametrize(("headers", "body"), SMUGGLING.values(), ids=SMUGGLING.keys())
def test_an_offer_hides_no_second_request(served: Live, headers: bytes, body: bytes) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\n" + OFFERS["h2c"] + headers + b"\r\n\r\n"
    answer = exchange(served, head + body + LIVEZ)
    assert statuses(answer) == [400]


@pytest.mark.parametrize("path", ["/livez", "/jobs", "/score", "/nowhere"])
def test_no_offer_holds_a_connection_open(closed: Live, path: str) -> None:
    """What asks for a key asks for it here, too, and an idle connection is closed as any other."""
    asked = b"GET %s HTTP/1.1\r\nHost: localhost\r\n" % path.encode() + OFFERS["websocket"] + b"\r\n"
    closed.server.config.timeout_keep_alive = 1
    assert statuses(exchange(closed, asked)) == [{"/livez": 200, "/jobs": 401, "/score": 405}.get(path, 404)]


@pytest.mark.needs("curl")
def test_curl_uploads_with_an_offer_of_http_2(served: Live, tmp_path: Path) -> None:
    (tmp_path / "track.wav").write_bytes(WAV)
    command = ["curl", "--http2", "--silent", "--show-error", "--fail", f"{served.url}/score"]
    done = subprocess.run([*command, "-F", f"file=@{tmp_path}/track.wav"], capture_output=True, check=True)
    served.services.storage.delete(json.loads(done.stdout)["id"])


# Slow clients


@pytest.mark.parametrize("beginning", [b"", b"GET /li", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(served: Live, beginning: bytes) -> None:
    began = time.monotonic()
    assert exchange(served, beginning) == b""
    assert time.monotonic() - began > HEAD_S * 0.9


def test_a_head_that_trickles_is_not_waited_for(served: Live) -> None:
    began = time.monotonic()
    with connect(served) as connection, suppress(ConnectionError):
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        while True:
            connection.sendall(b"X: a\r\n")
            time.sleep(0.05)
    assert time.monotonic() - began > HEAD_S * 0.9


def test_a_second_request_has_a_deadline_of_its_own(served: Live) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(served) as connection:
        for _ in range(4):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(HEAD_S / 2)
        connection.sendall(request[:10])
        assert connection.recv(65536) == b""


def test_two_hundred_stalled_uploads_delay_no_other_request_and_are_dropped(served: Live) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as stack, served.client() as client:
        stalled = [stack.enter_context(connect(served)) for _ in range(N_STALLED)]
        for connection in stalled:
            connection.sendall(head + WAV)
        client.get("/livez").raise_for_status()
        accepted = client.post("/score", content=WAV, headers={"Content-Type": "audio/wav"})
        assert accepted.status_code == 202
        assert all(statuses(connection.recv(65536)) == [408] for connection in stalled)
        served.services.storage.delete(accepted.json()["id"])


# Clients that leave


def test_a_client_that_leaves_anywhere_leaves_nothing_behind(served: Live) -> None:
    body, content_type = track_form(WAV * 20), FORM["Content-Type"].encode()
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    request = head % (content_type, len(body)) + body
    rng = random.Random(0)
    lengths = [rng.randrange(len(request)) for _ in range(N_ABORTS)]
    exchange(served, LAST)  # the server has started
    before = descriptors(served)
    leave_at(served, request, lengths)
    eventually(lambda: descriptors(served) <= before + 2)
    eventually(lambda: not audio_files(served.services.settings.audio_dir))
    assert UnfinishedJobs(served.services.redis, KEYS).ids() == []


def leave_at(served: Live, request: bytes, lengths: list[int]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda length: leave(served, request[:length]), lengths))


def leave(served: Live, sent: bytes) -> None:
    with connect(served) as connection:
        connection.sendall(sent)


def descriptors(served: Live) -> int:
    """What is open, idle connections to Redis left out."""
    served.services.redis.connection_pool.disconnect(inuse_connections=False)
    return len(os.listdir("/proc/self/fd"))


# Who is asked for a key

NO_JOB = "job_" + "0" * 32
TARGETS = [
    "/jobs", "//jobs", "/jobs/", "/jobs/.", "/./jobs", "/livez/../jobs", "/livez/%2e%2e/jobs", "/livez/..%2fjobs",
    "/%6aobs", "/jobs%00", "/jobs;/livez", "/jobs?/livez", "/jobs#/livez", "/JOBS", "/jobs%2f", "/livez%2f..%2fjobs",
    "http://x/jobs", "http://x/livez/../jobs", "http://evil@x/jobs", "//livez@x/jobs", "/livez@x/../jobs", "/jobs\\",
    f"/jobs/{NO_JOB}", f"/jobs/{NO_JOB}/events", f"/jobs/../livez/../jobs/{NO_JOB}", "/capacity", "/batches",
    "/problems/../jobs", "/docs/../jobs", "/openapi.json/../jobs", "/jobs/" + "a" * 8192,
]  # fmt: skip
HOSTS = ["x", "", "x/livez?", "livez", "x:99999", "[::1", "x\\@livez", "127.0.0.1, livez", "x#", "evil.example/livez"]
OVERRIDES = [
    "X-HTTP-Method-Override: GET",
    "X-Original-URL: /livez",
    "X-Rewrite-URL: /livez",
    "X-Forwarded-Prefix: /livez",
    "X-Forwarded-Host: livez",
    "X-Forwarded-For: 127.0.0.1",
    "Forwarded: for=127.0.0.1;host=livez",
]


def test_no_spelling_of_a_path_avoids_authentication(closed: Live) -> None:
    for target in TARGETS:
        assert set(answered(closed, f"GET {target} HTTP/1.1\r\nHost: x")) <= {400, 401, 404, 405}, target


def test_no_host_and_no_other_header_avoids_authentication(closed: Live) -> None:
    for header in [*(f"Host: {host}" for host in HOSTS), *(f"Host: localhost\r\n{override}" for override in OVERRIDES)]:
        assert set(answered(closed, f"GET /jobs HTTP/1.1\r\n{header}")) <= {400, 401}, header
        assert set(answered(closed, f"POST /score HTTP/1.1\r\n{header}\r\nContent-Length: 0")) <= {400, 401}, header


def answered(served: Live, head: str) -> list[int]:
    return statuses(exchange(served, head.encode() + b"\r\nConnection: close\r\n\r\n"))
