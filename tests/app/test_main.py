"""The front end as a process: its imports, its memory under a real server, and early refusals."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.app.api.asgi import WAV, chunked_sync
from tests.conftest import audio_files

HEAVY = ("torch", "transformers", "av", "numpy", "model.audio.decoder", "model.inference.scorer", "worker")
MIB = 1024 * 1024

IMPORT = """
import json, sys
from app.main import create_app
from app.core.settings import ApiSettings
create_app(ApiSettings())
print(json.dumps(sorted(sys.modules)))
"""

SERVE = """
import socket
from app.main import create_app
from app.api.server.connections import ConnectionLimits
from app.api.server.server import Server
from app.core.settings import ApiSettings
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
Server(create_app(ApiSettings()), ConnectionLimits()).run(sockets=[listening])
"""


def environment(data_dir: Path, redis_url: str, **more: str) -> dict[str, str]:
    return os.environ | {"APEX_DATA_DIR": str(data_dir), "APEX_REDIS_URL": redis_url, **more}


def test_the_front_end_imports_nothing_heavy(data_dir: Path, redis_url: str) -> None:
    env = environment(data_dir, redis_url)
    output = subprocess.run([sys.executable, "-c", IMPORT], env=env, check=True, capture_output=True, text=True).stdout
    assert set(HEAVY).isdisjoint(json.loads(output))


@contextmanager
def serving(env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            yield server, int(server.stdout.readline())
        finally:
            server.terminate()


def peak_bytes(server: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize("as_form", [True, False])
def test_memory_stays_flat_while_100_megabytes_come_in(
    data_dir: Path, redis_url: str, redis: object, as_form: bool
) -> None:
    size = 100 * 1000 * 1000
    with serving(environment(data_dir, redis_url)) as (server, port), httpx.Client(timeout=60) as client:
        url = f"http://127.0.0.1:{port}/score"
        assert client.post(url, files={"file": WAV}).status_code == 202
        before = peak_bytes(server)
        headers, body = chunked_sync(size, as_form=as_form)
        answer = client.post(url, content=body, headers=headers)
        assert answer.status_code == 202
        assert answer.json()["audio"]["bytes"] == size
        assert peak_bytes(server) - before < 16 * MIB
        assert "server" not in answer.headers


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes, and nothing more, and read until the server hangs up; what it answered."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        while received := connection.recv(65536):
            answer += received
    return answer


def head(length: int, *more: bytes) -> bytes:
    return b"\r\n".join(
        [b"POST /score HTTP/1.1", b"Host: localhost", b"Content-Type: audio/wav", *more, b"", b""]
    ).replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % length, 1)


def test_what_is_refused_early_is_answered_before_it_has_come_and_closed(data_dir: Path, redis_url: str) -> None:
    with serving(environment(data_dir, redis_url)) as (_, port):
        for request, status in (
            (head(10**9), b"413"),
            (head(10**9, b"Expect: 100-continue"), b"413"),
            (head(10**6) + b"<html>" + b"x" * 5000, b"415"),
        ):
            answer = exchange(port, request)
            assert answer.startswith(b"HTTP/1.1 " + status), request
            assert b"connection: close" in answer.lower()
            assert b"application/problem+json" in answer


def test_a_large_upload_without_a_key_gets_its_401(data_dir: Path, redis_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice {'0' * 64}\n")
    env = environment(data_dir, redis_url, APEX_API_KEYS_FILE=str(keys))
    with serving(env) as (_, port), httpx.Client(timeout=30) as client:
        headers, body = chunked_sync(50 * MIB, as_form=True)
        answer = client.post(f"http://127.0.0.1:{port}/score", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert audio_files(data_dir / "audio") == []


def test_a_stalled_upload_gets_its_408(data_dir: Path, redis_url: str) -> None:
    with serving(environment(data_dir, redis_url, APEX_UPLOAD_IDLE_TIMEOUT_S="0.3")) as (_, port):
        answer = exchange(port, head(10**6) + WAV)
    assert answer.startswith(b"HTTP/1.1 408")
    assert audio_files(data_dir / "audio") == []
