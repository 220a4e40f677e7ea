"""`apex` itself: quick to import, and a wrong setting is one sentence."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app.cli.main import app
from tests.redis_servers import cluster

#: Every program that reads settings.
PROGRAMS = (
    *("app.cli up", "app.cli worker", "app.cli api", "app.cli score a.wav", "app.cli keys list"),
    *("worker", "worker.process", "worker.health"),
)


def run(program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *program.split()]
    environment = os.environ | {f"APEX_{name}": value for name, value in settings.items()}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_setting_is_one_line_on_stderr_and_exit_status_78(program: str) -> None:
    done = run(program, WORKERS="0", PORT="http", LOG_LEVEL="loud")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
    assert done.stderr.startswith("apex: APEX_")


@pytest.mark.parametrize("program", ["app.cli api", "app.cli up", "worker"])
def test_a_data_folder_that_is_none_is_one_line_too(program: str, tmp_path: Path) -> None:
    (tmp_path / "mert").mkdir()
    file = tmp_path / "file"
    file.touch()
    done = run(program, DATA_DIR=str(file), WEIGHTS_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (78, "")
    *logged, sentence = done.stderr.splitlines()
    assert sentence.startswith(f"apex: {file}")
    assert all("Redis cannot be used yet" in line for line in logged)


def test_a_file_of_keys_that_is_not_there_is_one_line_too(tmp_path: Path) -> None:
    done = run("app.cli api", DATA_DIR=str(tmp_path), API_KEYS_FILE=str(tmp_path / "none"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)


def test_durations_that_refuse_every_track_are_refused() -> None:
    done = run("worker.health", MIN_DURATION_S="20", MAX_DURATION_S="10")
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)


def test_a_redis_that_is_away_is_one_line_of_the_check_of_health() -> None:
    done = run("worker.health", REDIS_URL="redis://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (1, "Nothing listens at Redis's address.\n")


@pytest.mark.parametrize("program", ["app.cli api", "worker"])
def test_a_redis_that_cannot_be_used_is_one_line_too(program: str, tmp_path: Path) -> None:
    with cluster(tmp_path) as started:
        done = run(program, REDIS_URL=started.url, DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
    assert "Redis Cluster" in done.stderr


def commands(group: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command below a group, by the words that call it."""
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *path, name)
    yield " ".join(path), group


OF_A_TENANT = [
    words for words, command in commands(get_command(app)) if any(each.name == "tenant" for each in command.params)
]


@pytest.mark.parametrize("command", OF_A_TENANT)
def test_a_tenant_that_cannot_exist_is_refused_in_one_line(command: str) -> None:
    done = run(f"app.cli {command} --tenant a/b", REDIS_URL="redis://127.0.0.1:1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "a tenant's name" in done.stderr


SECRET = "SEKRET"


@pytest.mark.parametrize("program", ["app.cli api", "app.cli keys list", "worker.process"])
def test_a_url_of_redis_that_cannot_be_used_is_not_shown(program: str) -> None:
    done = run(program, REDIS_URL=f"redis://:{SECRET}part/more@h/0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
    assert done.stderr.startswith("apex: APEX_REDIS_URL: write characters of a user or password")
    assert SECRET not in done.stderr
