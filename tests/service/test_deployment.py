"""Programs that meet the wrong storage end at once, with a sentence and a status of their own."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from app.core.deployment import Deployment
from app.core.misconfiguration import EXIT_MISCONFIGURED, Misconfigured
from app.core.redis import server
from app.core.settings import WorkerSettings
from app.core.storage.folder import MARKER, FolderStorage
from tests.app.test_main import environment
from tests.conftest import KEYS
from worker.main import main, supervised

PROGRAMS = {"api": ["-m", "app.cli", "api", "--port", "0"], "worker": ["-m", "worker"]}


def ended(program: str, env: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *PROGRAMS[program]], env=env, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_folder_that_is_not_mounted_ends_a_start(
    program: str, redis: Redis, redis_url: str, data_dir: Path, tmp_path: Path
) -> None:
    Deployment(redis, KEYS, FolderStorage(data_dir / "audio")).require()
    status, said = ended(program, environment(tmp_path / "unmounted", redis_url))
    assert status == 78
    assert said.startswith(f"apex: the storage {tmp_path}/unmounted/audio is refused: it lacks the marker")
    assert len(said.splitlines()) == 1


def test_a_storage_is_not_made_that_of_a_redis_which_is_refused(
    redis: Redis, redis_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MIN_VERSION", (99, 0))
    monkeypatch.setenv("APEX_REDIS_URL", redis_url)
    monkeypatch.setenv("APEX_DATA_DIR", str(data_dir))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == EXIT_MISCONFIGURED
    assert FolderStorage(data_dir / "audio").marker() is None
    assert not redis.exists(KEYS.deployment)


@pytest.mark.parametrize("right", ["check_readable", "check_deletable"])
def test_a_worker_without_a_right_to_the_files_of_others_does_not_start(
    redis: Redis, redis_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    def refuse(storage: FolderStorage) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(storage))

    monkeypatch.setattr(FolderStorage, right, refuse)
    with pytest.raises(Misconfigured, match=f"{data_dir}/audio cannot be used: Permission denied"):
        supervised(WorkerSettings(data_dir=data_dir, redis_url=redis_url), [])


def test_a_storage_is_adopted_by_a_command(redis: Redis, redis_url: str, data_dir: Path) -> None:
    storage = FolderStorage(data_dir / "audio")
    storage.create_marker("dep_other")
    command = [sys.executable, "-m", "app.cli", "storage", "adopt", "--data-dir", str(data_dir)]
    done = subprocess.run([*command, "--redis-url", redis_url], capture_output=True, text=True, check=True)
    assert "dep_other" in done.stderr
    Deployment(redis, KEYS, storage).require()
    assert (storage.directory / MARKER).read_text() == "dep_other\n"
