"""Temporary directories that do not pile up: what a killed process left behind is deleted by the next."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_directory(purpose: str) -> Iterator[Path]:
    """A private directory, deleted when the block ends. Deletes first what killed processes left of the same purpose.

    purpose : letters; part of the directory's name
    A directory is locked as long as its process lives. Where there are no locks, nobody else's is deleted.
    """
    prefix = f"apex.{purpose}."
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _delete_abandoned(path)
    path, lock = _create_locked(prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _create_locked(prefix: str) -> tuple[Path, int]:
    """Under a name that nobody looks for until it is locked."""
    path = Path(tempfile.mkdtemp(prefix=f"new-{prefix}"))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path.rename(path.with_name(path.name.removeprefix("new-"))), lock


def _delete_abandoned(path: Path) -> None:
    with suppress(OSError):  # it is in use, another user's, or gone by now
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
