"""Temporary directories: private, gone at the end, and none left of a process that was killed."""

import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model.temporary import temporary_directory

HOLDING = """
import time
from model.temporary import temporary_directory
with temporary_directory("test") as path:
    print(path, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made, in processes that a test starts too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def holding() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a directory of its own."""
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_directory_is_private_and_gone_at_the_end(place: Path) -> None:
    with temporary_directory("test") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "file").touch()
        assert list(place.iterdir()) == [path]
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_deleted_by_the_next(place: Path) -> None:
    with holding() as (process, left):
        (left / "file").touch()
        process.kill()
        process.wait()
        assert left.exists()
        with temporary_directory("test") as path:
            assert list(place.iterdir()) == [path]


def test_a_living_process_keeps_its_own_and_so_does_another_purpose(place: Path) -> None:
    (place / "apex.other.x").mkdir()
    with holding() as (_, living), temporary_directory("test") as path, temporary_directory("test") as another:
        assert {living, path, another, place / "apex.other.x"} == set(place.iterdir())


def test_no_link_leads_to_what_is_deleted(place: Path) -> None:
    (place / "precious").mkdir()
    (place / "apex.test.x").symlink_to(place / "precious")
    with temporary_directory("test"):
        assert (place / "precious").exists()
