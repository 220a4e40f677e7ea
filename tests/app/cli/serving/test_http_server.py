"""The front end as `apex api` runs it: its limit of open files, and what it does with a low one."""

import gc
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from app.cli.serving.http_server import MIN_CONNECTIONS, OTHER_DESCRIPTORS, make_room, tune_gc
from app.core.settings import ApiSettings
from tests.app.api.asgi import RAW, WAV
from tests.app.api.live import eventually
from tests.app.test_main import environment
from tests.e2e.wire import connect
from tests.ports import free_port

SERVE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from app.cli.serving.http_server import serve
serve()
"""

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "raised_to", "connections", "listeners"),
    [
        ((1024, 4096), 4096, (4096 - OTHER_DESCRIPTORS) // 2, (4096 - OTHER_DESCRIPTORS) // 4),
        ((1024, 10**6), OTHER_DESCRIPTORS + 4000, 2000, 1000),
        ((1024, UNLIMITED), OTHER_DESCRIPTORS + 4000, 2000, 1000),
        ((UNLIMITED, UNLIMITED), None, 2000, 1000),
        ((10**6, 10**6), None, 2000, 1000),
        ((64, 64), None, MIN_CONNECTIONS, MIN_CONNECTIONS // 2),
    ],
)
def test_connections_are_as_many_as_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised_to: int | None, connections: int, listeners: int
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, values: set_to.append(values))
    settings = make_room(ApiSettings())
    assert (settings.max_connections, settings.max_listeners) == (connections, listeners)
    assert set_to == ([(raised_to, limits[1])] if raised_to else [])


def test_garbage_is_collected_a_tenth_as_often() -> None:
    before = young, *older = gc.get_threshold()
    try:
        tune_gc()
        assert gc.get_threshold() == (10 * young, *older)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def serving(env: dict[str, str], url: str) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", SERVE], env=env) as server:
        try:
            eventually(lambda: answers(url))
            yield
        finally:
            server.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").is_success
    except httpx.TransportError:
        return False


def test_idle_connections_beyond_the_limit_of_open_files_shut_nobody_out(
    data_dir: Path, redis_url: str, redis: object
) -> None:
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    with serving(environment(data_dir, redis_url, APEX_PORT=str(port)), url), ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(url)).sendall(b"GET /livez HTTP/1.1\r\n")
        assert httpx.post(f"{url}/score", content=WAV, headers=RAW).status_code == 202
