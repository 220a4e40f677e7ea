"""Disks that are full or failing, for real where that is permitted: no 202 without durable bytes, nothing left over."""

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api import ttl_cache
from app.cli.serving.embedded_redis import EmbeddedRedis
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.settings import ApiSettings
from app.core.storage.folder import FolderStorage
from app.main import create_app
from tests import mounts
from tests.app.api.asgi import RAW, WAV
from tests.app.api.live import eventually, live
from tests.app.test_main import environment, serving
from tests.conftest import KEYS, audio_files
from tests.mounts import CannotMount, filled
from tests.strace import attached

KIB, MIB = 1024, 1024 * 1024
TRACK = WAV + os.urandom(500 * KIB)


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of its own in memory; the test is skipped where mounting one is not permitted."""
    with ExitStack() as stack:
        try:
            stack.enter_context(mounts.small_disk(directory, size_bytes))
        except CannotMount:
            pytest.skip("this machine lets nobody mount a file system")
        yield directory


def app_on(data_dir: Path, redis_url: str, **settings: object) -> FastAPI:
    return create_app(ApiSettings(data_dir=data_dir, redis_url=redis_url, max_upload_bytes=MIB, **settings))  # type: ignore[arg-type]


def post(client: httpx.Client) -> httpx.Response:
    return client.post("/score", content=TRACK, headers=RAW)


@pytest.mark.parametrize("checked", [True, False], ids=["checked first", "found out while writing"])
def test_uploads_to_a_disk_that_fills_are_kept_whole_or_refused(
    data_dir: Path, redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    if not checked:
        monkeypatch.setattr(FolderStorage, "free_bytes", lambda _storage: 1 << 40)
    with (
        small_disk(data_dir / "audio", 8 * MIB),
        live(app_on(data_dir, redis_url)) as serving,
        serving.client() as client,
    ):
        answers = [post(client) for _ in range(30)]
        accepted = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        kept = {path.name: path.read_bytes() for path in audio_files(serving.services.settings.audio_dir)}
        assert {answer.status_code for answer in answers} == {202, 507}
        assert 12 <= len(accepted) <= 16
        assert kept == dict.fromkeys(accepted, TRACK)
        assert set(UnfinishedJobs(serving.services.redis, KEYS).ids()) == accepted


LARGEST = WAV + bytes(MIB - len(WAV))
#: Decoded, the longest track has 1.1 MB.
SHORT_TRACKS = {"max_duration_s": 10.0}


def test_a_batch_is_refused_by_its_declared_length_when_the_disk_cannot_hold_it(
    data_dir: Path, redis_url: str, redis: Redis
) -> None:
    with (
        small_disk(data_dir, 16 * MIB),
        live(app_on(data_dir, redis_url, **SHORT_TRACKS)) as serving,
        serving.client() as client,
    ):
        answer = client.post("/batches", files=[("files", LARGEST)] * 20)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert audio_files(serving.services.settings.audio_dir) == []
        items = client.post("/batches", files=[("files", LARGEST)] * 10).json()["items"]
        assert [item["status"] for item in items] == [202] * 10


def test_uploads_in_flight_and_the_decoders_keep_the_room_that_they_may_need(
    data_dir: Path, redis_url: str, redis: Redis
) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: %d\r\n\r\n" % MIB
    with (
        small_disk(data_dir, 6 * MIB - 64 * KIB),
        live(app_on(data_dir, redis_url, upload_idle_timeout_s=60.0, **SHORT_TRACKS)) as serving,
        serving.client() as client,
        ExitStack() as in_flight,
    ):
        reserved = serving.services.uploads.reservations
        for number in range(1, 4):
            upload = in_flight.enter_context(socket.create_connection(serving.address))
            upload.sendall(head + WAV)
            eventually(lambda number=number: reserved.total_bytes > (number - 1) * MIB)
        assert client.post("/score", content=LARGEST, headers=RAW).status_code == 507
        assert post(client).status_code == 202  # half as large
        in_flight.close()
        eventually(lambda: reserved.total_bytes == 0)
        assert client.post("/score", content=LARGEST, headers=RAW).status_code == 202


def test_a_redis_whose_disk_is_full_accepts_nothing_and_forgets_nothing(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is known of the model is not asked for again within a moment, in which more audio may come to wait.
    monkeypatch.setattr(ttl_cache, "TTL_S", -1.0)
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "redis", 6 * MIB))
        server = stack.enter_context(EmbeddedRedis(disk))
        serving = stack.enter_context(live(app_on(data_dir, server.url)))
        client = stack.enter_context(serving.client())
        answers = [post(client)]
        with filled(disk):
            answers += [post(client) for _ in range(5)]  # the last page of the file may have room for one more
        accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        assert [answer.json()["code"] for answer in answers[2:]] == ["redis_unavailable"] * 4
        stored = {path.name for path in audio_files(serving.services.settings.audio_dir)}
        # Redis died with one answer unsaid: its record may exist, so its audio waits for the reconciler.
        assert set(accepted) <= stored
        assert len(stored - set(accepted)) <= 1
        eventually(lambda: revived(server, client))
        assert {client.get(f"/jobs/{job_id}").json()["status"] for job_id in accepted} == {"queued"}


def revived(server: EmbeddedRedis, client: httpx.Client) -> bool:
    server.revive()
    return post(client).status_code == 202


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("fault", "status"),
    [("fsync:error=EIO", 503), ("fsync:error=ENOSPC", 507), ("rename:error=EROFS", 503)],
)
def test_a_disk_that_fails_at_the_last_step_is_told(
    data_dir: Path, redis_url: str, redis: Redis, fault: str, status: int
) -> None:
    with serving(environment(data_dir, redis_url)) as (server, port), failing(server.pid, fault):
        answer = httpx.post(f"http://127.0.0.1:{port}/score", content=TRACK, headers=RAW, timeout=30)
    assert answer.status_code == status
    assert audio_files(data_dir / "audio") == []


def failing(pid: int, fault: str) -> AbstractContextManager[None]:
    """Has the kernel refuse a process one kind of call, as long as the block."""
    call = fault.partition(":")[0]
    return attached(pid, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={fault}")
