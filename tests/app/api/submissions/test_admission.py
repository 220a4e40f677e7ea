"""Admission control under a real server: a client that is refused by its headers sends none of the body."""

import asyncio
import base64
import hashlib
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.core.callers import Limits
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import WAV
from tests.app.api.live import Live, live
from tests.app.records import queued
from tests.conftest import KEYS, audio_files
from tests.ports import free_port

MIB = 1024 * 1024
N_AT_ONCE = 1000


@pytest.fixture
def guarded(settings: ApiSettings, redis: Redis) -> FastAPI:
    limits = {"require_api_keys": True, "max_queued_audio_s": 1000.0}
    return create_app(settings.model_copy(update=limits), redis=redis)


@pytest.fixture
def server(guarded: FastAPI) -> Iterator[Live]:
    with live(guarded) as server:
        yield server


@pytest.fixture
def key(redis: Redis) -> str:
    return KeyStore(redis, KEYS).create(tenant="acme")[1]


def head(length: int, **headers: str) -> bytes:
    lines = {"Host": "x", "Content-Type": "audio/wav", "Content-Length": str(length)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    return "".join(["POST /score HTTP/1.1\r\n", *(f"{n}: {v}\r\n" for n, v in lines.items()), "\r\n"]).encode()


def connected(server: Live) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
    return connection


def answer_to(server: Live, request: bytes) -> str:
    """What comes back until the server hangs up. Nothing of the body is sent."""
    answer = b""
    with connected(server) as connection:
        connection.sendall(request)
        while received := connection.recv(65536):
            answer += received
    return answer.decode()


@pytest.mark.parametrize(
    ("with_key", "length", "status"), [(False, 50 * MIB, b"401"), (True, 250 * MIB, b"413"), (False, 250 * MIB, b"401")]
)
def test_a_large_upload_is_refused_before_it_comes_and_cut_if_it_does(
    server: Live, key: str, with_key: bool, length: int, status: bytes
) -> None:
    with connected(server) as connection:
        connection.sendall(head(length, **({"X_API_Key": key} if with_key else {})))
        answer = connection.recv(65536)
        sent = poured(connection, length)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"application/problem+json" in answer
    assert sent < 32 * MIB
    assert audio_files(server.services.settings.audio_dir) == []


def poured(connection: socket.socket, length: int) -> int:
    """How much of a body goes out before the server cuts off a client that does not listen."""
    sent, block = 0, b"x" * 65536
    try:
        while sent < length:
            sent += connection.send(block)
    except OSError:
        return sent
    return sent


def digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def test_who_expects_to_go_on_is_refused_without_sending_the_body(
    server: Live, redis: Redis, key: str, guarded: FastAPI
) -> None:
    keys = KeyStore(redis, KEYS)
    reader = keys.create(tenant="acme", scopes=["jobs:read"])[1]
    poor = keys.create(tenant="acme", limits=Limits(bytes_per_day=10))[1]
    with server.client() as client:
        known = {"X-API-Key": key, "Idempotency-Key": "known", "Content-Type": "audio/wav"}
        first = client.post("/score", content=WAV, headers=known)
    idempotency = server.services.idempotency
    idempotency.begin(tenant="acme", route="POST /score", key="busy")
    refused = {
        "401 unauthorized": answer_to(server, head(10, Expect="100-continue")),
        "403 forbidden_scope": answer_to(server, head(10, Expect="100-continue", X_API_Key=reader)),
        "413 payload_too_large": answer_to(server, head(10**9, Expect="100-continue", X_API_Key=key)),
        "415 unsupported_media_type": answer_to(
            server, head(10, Expect="100-continue", X_API_Key=key).replace(b"audio/wav", b"text/csv")
        ),
        "409 idempotency_in_flight": answer_to(
            server, head(10, Expect="100-continue", X_API_Key=key, Idempotency_Key="busy")
        ),
        "422 idempotency_key_reused": answer_to(
            server,
            head(10, Expect="100-continue", X_API_Key=key, Idempotency_Key="known", Content_Digest=digest(b"other")),
        ),
        "429 quota_exceeded": answer_to(server, head(11, Expect="100-continue", X_API_Key=poor)),
    }
    for said, answer in refused.items():
        status, code = said.split()
        assert answer.startswith(f"HTTP/1.1 {status}"), answer
        assert f'"code":"{code}"' in answer
        assert "100 Continue" not in answer
    replayed = answer_to(
        server,
        head(90 * MIB, Expect="100-continue", X_API_Key=key, Idempotency_Key="known", Content_Digest=digest(WAV)),
    )
    assert replayed.startswith("HTTP/1.1 202")
    assert "100 Continue" not in replayed
    assert replayed.endswith(first.text)
    queued(server.services.machine, estimated_s=2000.0)
    queued(server.services.machine, estimated_s=1.0)
    full = answer_to(server, head(10, Expect="100-continue", X_API_Key=key))
    assert full.startswith("HTTP/1.1 503")
    assert "100 Continue" not in full


def test_an_expected_continue_is_sent_to_an_admitted_request(server: Live, key: str) -> None:
    with connected(server) as connection:
        connection.sendall(head(len(WAV), Expect="100-continue", X_API_Key=key))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(WAV)
        assert connection.recv(65536).startswith(b"HTTP/1.1 202")


async def one_of_many(port: int, request: bytes, start: asyncio.Event) -> bytes:
    await start.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def all_at_once(port: int, request: bytes) -> list[bytes]:
    start = asyncio.Event()
    asking = [asyncio.create_task(one_of_many(port, request, start)) for _ in range(N_AT_ONCE)]
    start.set()
    return await asyncio.gather(*asking)


def test_a_thousand_requests_at_once_with_one_key_make_one_job(server: Live, redis: Redis) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * N_AT_ONCE)), hard))
    key = KeyStore(redis, KEYS).create(tenant="acme", limits=Limits(requests_per_minute=10**6))[1]
    request = head(len(WAV), X_API_Key=key, Idempotency_Key="one", Connection="close") + WAV
    answers = asyncio.run(all_at_once(int(server.url.rpartition(":")[2]), request))
    statuses = [answer[9:12] for answer in answers]
    bodies = {answer.partition(b"\r\n\r\n")[2] for answer in answers if answer[9:12] == b"202"}
    assert len(answers) == N_AT_ONCE
    assert set(statuses) <= {b"202", b"409"}
    assert len(bodies) == 1
    assert len(list(server.services.jobs.list_by_created("acme"))) == 1
    assert len(server.services.queue.rq.job_ids) == 1
    assert len(audio_files(server.services.settings.audio_dir)) == 1


def test_a_key_is_in_no_log_whatever_is_done_with_it(data_dir: Path, redis_url: str, redis: Redis) -> None:
    key = KeyStore(redis, KEYS).create(tenant="acme")[1]
    secret = key.rpartition("_")[2]
    port = free_port("127.0.0.1")
    env = os.environ | {"APEX_DATA_DIR": str(data_dir), "APEX_REDIS_URL": redis_url, "APEX_LOG_LEVEL": "DEBUG"}
    command = [sys.executable, "-m", "app.cli", "api", "--port", str(port)]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as server:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}) as client:
            wait_until_up(client)
            client.post("/score", content=WAV, headers={"Content-Type": "audio/wav"})
            client.post("/score", content=WAV[:10], headers={"Content-Type": f"audio/{key}", "Idempotency-Key": key})
            client.get(f"/jobs/{key}?api_key={key}", headers={"X-Request-Id": "r"})
            client.get(f"/{key}")
            client.get("/model", headers={"Authorization": f"Bearer {key}x"})
        answer_to_garbage(port, f"GET / HTTP/1.1\r\n{key}\r\n\r\n".encode())
        server.terminate()
        _, log = server.communicate(timeout=30)
    assert len(re.findall(r'"logger": "app.requests"', log)) >= 6
    assert secret not in log
    assert key.split("_")[2] in log


def wait_until_up(client: httpx.Client) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            client.get("/livez").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


def answer_to_garbage(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        return connection.recv(65536)
