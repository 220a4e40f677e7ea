"""`POST /score` when storage or Redis fails: an accepted job is durable, a refused one leaves nothing behind."""

import errno
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import Problem
from app.core.settings import ApiSettings
from app.core.storage.folder import MARKER, FolderStorage, PartialFile
from app.main import create_app
from tests.app.api.asgi import RAW, SECRET, WAV
from tests.app.api.track_requests import left_behind
from tests.app.conftest import client_of
from tests.conftest import audio_files

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        (errno.ENOSPC, 507, "storage_full"),
        (errno.EDQUOT, 507, "storage_full"),
        (errno.EIO, 503, "storage_unavailable"),
        (errno.EROFS, 503, "storage_unavailable"),
        (errno.ETIMEDOUT, 503, "storage_unavailable"),
    ],
)
@pytest.mark.parametrize("step", ["_write", "open", "sync"])
async def test_a_storage_error_is_reported_and_leaves_nothing(
    client: httpx.AsyncClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    number: int,
    status: int,
    code: str,
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(number, SECRET)

    owner = {"_write": PartialFile, "open": Path, "sync": FolderStorage}[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, refuse)
        answer = await client.post("/score", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["retry-after"]
    assert left_behind(services) == []
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert SECRET in line.getMessage()  # the operator's log says why, in a line
    assert line.exc_info is None


async def test_without_redis_nothing_is_accepted_and_nothing_kept(settings: ApiSettings, tmp_path: Path) -> None:
    app = create_app(settings.model_copy(update={"redis_url": f"unix://{tmp_path}/none.sock"}))
    async with client_of(app) as client:
        answer = await client.post("/score", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert audio_files(settings.audio_dir) == []


async def test_a_storage_that_was_unmounted_takes_no_upload(client: httpx.AsyncClient, services: Services) -> None:
    assert (await client.post("/score", content=WAV, headers=RAW)).status_code == 202
    (services.settings.audio_dir / MARKER).unlink()
    before = left_behind(services)
    answer = await client.post("/score", content=WAV + b"\0", headers=RAW)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer.headers["retry-after"]
    assert left_behind(services) == before


async def test_a_redis_that_never_answers_is_given_up(settings: ApiSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        app = create_app(settings.model_copy(update={"redis_url": url}))
        async with client_of(app) as client, app.router.lifespan_context(app):
            for request in (
                client.build_request("POST", "/score", content=WAV, headers=RAW),
                client.build_request("GET", "/jobs/job_1"),
                client.build_request("GET", "/readyz"),
            ):
                assert (await client.send(request)).status_code == 503


async def test_a_full_redis_refuses_and_leaves_nothing(
    client: httpx.AsyncClient, services: Services, redis: Redis
) -> None:
    redis.config_set("maxmemory", 1)
    try:
        answer = await client.post("/score", content=WAV, headers=RAW)
    finally:
        redis.config_set("maxmemory", 0)
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    assert left_behind(services) == []


async def test_the_bytes_are_durable_before_the_record(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for owner, name in ((PartialFile, "commit"), (JobStateMachine, "create")):
        real = getattr(owner, name)

        def noted(*args: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            steps.append(name)
            return real(*args, **options)

        monkeypatch.setattr(owner, name, noted)
    await client.post("/score", content=WAV, headers=RAW)
    assert steps == ["commit", "create"]


async def test_a_problem_raised_late_deletes_the_committed_file(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise Problem("shutting_down")

    monkeypatch.setattr(JobStateMachine, "create", fail)
    answer = await client.post("/score", content=WAV, headers=RAW)
    assert answer.status_code == 503
    assert left_behind(services) == []


async def test_files_are_written_in_threads(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    main, seen = threading.get_ident(), set[int]()
    real = PartialFile._write

    def noted(file: PartialFile, block: bytearray) -> None:
        seen.add(threading.get_ident())
        real(file, block)

    monkeypatch.setattr(PartialFile, "_write", noted)
    await client.post("/score", content=WAV, headers=RAW)
    assert seen
    assert main not in seen
