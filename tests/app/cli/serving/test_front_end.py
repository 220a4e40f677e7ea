"""`apex api --processes 2`: one port, whatever becomes of the processes behind it, and one set of limits."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.cli.serving.front_end import EXIT_NOT_STARTED, listen, port_of
from app.core.callers import Limits
from app.core.storage.room import Reservations
from tests.app.api.asgi import RAW, WAV
from tests.app.api.live import eventually
from tests.app.test_main import environment
from tests.conftest import KEYS
from tests.e2e.service import children
from tests.ports import free_port

N_REQUESTS = 40


@dataclass
class FrontEnd:
    """A running front end of two processes; `pid` is its supervisor's."""

    pid: int
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def at_once(self, method: str, path: str, **options: object) -> list[httpx.Response]:
        """The answers to many requests, each on a connection of its own, so that both processes get some."""

        def send(_: int) -> httpx.Response:
            return httpx.request(method, self.url + path, timeout=60, **options)  # type: ignore[arg-type]

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(send, range(N_REQUESTS)))


@contextmanager
def running(data_dir: Path, redis_url: str, **settings: str) -> Iterator[FrontEnd]:
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "app.cli", "api", "--processes", "2", "--port", str(port)]
    with subprocess.Popen(command, env=environment(data_dir, redis_url, **settings)) as process:
        front_end = FrontEnd(process.pid, port, process)
        try:
            eventually(lambda: process.poll() is not None or len(serving(process.pid)) == 2)
            yield front_end
        finally:
            process.terminate()


def serving(pid: int) -> list[int]:
    """The processes of a front end that have an event loop by now."""
    return [child for child in children(pid) if any(map(is_poll, Path(f"/proc/{child}/fd").iterdir()))]


def is_poll(descriptor: Path) -> bool:
    try:
        return "eventpoll" in os.readlink(descriptor)
    except FileNotFoundError:  # it was closed meanwhile
        return False


@pytest.fixture(scope="module")
def front_end(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontEnd]:
    with Redis.from_url(redis_url) as redis:
        redis.flushall()  # what other tests left is of another deployment
    with running(tmp_path_factory.mktemp("data"), redis_url) as front_end:
        yield front_end


@pytest.fixture
def kept_redis(redis_url: str) -> Iterator[Redis]:
    """Not emptied: a process that is started again would find a Redis that does not know its storage."""
    with Redis.from_url(redis_url) as client:
        yield client


def test_no_connection_is_lost_when_a_process_dies(front_end: FrontEnd) -> None:
    victim, other = serving(front_end.pid)
    os.kill(victim, signal.SIGKILL)
    assert [answer.status_code for answer in front_end.at_once("GET", "/livez")] == [200] * N_REQUESTS
    eventually(lambda: len(serving(front_end.pid)) == 2)
    assert victim not in serving(front_end.pid)
    assert other in serving(front_end.pid)


def test_a_request_that_is_repeated_to_another_process_makes_one_job(front_end: FrontEnd) -> None:
    headers = RAW | {"Idempotency-Key": "repeated-1"}
    answers = front_end.at_once("POST", "/score", content=WAV, headers=headers)
    assert {answer.status_code for answer in answers} <= {202, 409}
    made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    found = front_end.at_once("GET", f"/jobs/{made.pop()}")
    assert [answer.json()["status"] for answer in found] == ["queued"] * N_REQUESTS


def test_the_limit_of_a_key_is_one_for_all_processes(front_end: FrontEnd, kept_redis: Redis) -> None:
    key, secret = KeyStore(kept_redis, KEYS).create(tenant="acme", limits=Limits(requests_per_minute=N_REQUESTS // 2))
    headers = {"Authorization": f"Bearer {secret}"}
    statuses = [answer.status_code for answer in front_end.at_once("GET", "/jobs", headers=headers)]
    assert statuses.count(200) in range(N_REQUESTS // 2, N_REQUESTS // 2 + 3)  # some drain meanwhile
    KeyStore(kept_redis, KEYS).revoke(key.id)
    assert {answer.status_code for answer in front_end.at_once("GET", "/jobs", headers=headers)} == {401}


def test_a_stop_ends_uploads_well_and_leaves_no_process(data_dir: Path, redis_url: str, redis: Redis) -> None:
    with running(data_dir, redis_url) as front_end, upload(front_end.port) as connection:
        before = children(front_end.pid)
        os.kill(front_end.pid, signal.SIGTERM)
        eventually(lambda: refuses(front_end.port))
        connection.sendall(WAV[2000:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
        assert front_end.process.wait(60) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


@contextmanager
def upload(port: int) -> Iterator[socket.socket]:
    """A connection whose upload has begun."""
    head = "POST /score/raw HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
    head += f"Content-Length: {len(WAV)}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(WAV[:2000])
        yield connection


def refuses(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("program", [("api",), ("api", "--processes", "2"), ("up",)])
def test_a_port_that_is_taken_is_one_line_on_stderr_and_exit_status_3(
    program: tuple[str, ...], data_dir: Path, redis_url: str
) -> None:
    (data_dir / "mert").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "app.cli", *program, "--port", port]
        env = environment(data_dir, redis_url, APEX_WEIGHTS_DIR=str(data_dir))
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (EXIT_NOT_STARTED, 1)
    assert done.stderr.startswith(f"apex: cannot listen on port {port} of 127.0.0.1: Address already in use")


def test_processes_that_cannot_work_as_they_are_configured_end_their_supervisor(data_dir: Path, redis_url: str) -> None:
    command = [sys.executable, "-m", "app.cli", "api", "--processes", "2", "--port", "0"]
    env = environment(data_dir, redis_url, APEX_API_KEYS_FILE=str(data_dir / "none"))
    assert subprocess.run(command, env=env, capture_output=True).returncode == 78


def test_the_addresses_of_a_host_have_one_port() -> None:
    listeners = listen("localhost", 0)
    assert {listener.getsockname()[1] for listener in listeners} == {port_of(listeners)}
    for listener in listeners:
        listener.close()


def test_room_that_another_process_reserved_is_taken() -> None:
    counts = memoryview(bytearray(16)).cast("q")
    one, other = Reservations(counts, 0), Reservations(counts, 1)
    with one.reserve(100) as upload_of_one, other.reserve(20):
        upload_of_one.use(30)
        assert one.total_bytes == other.total_bytes == 90
    assert one.total_bytes == 0
    with one.reserve(100):
        assert Reservations(counts, 0).total_bytes == 0, "of a process that died nothing is left"
