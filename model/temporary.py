"""Temporary directories that do not pile up: what a killed process left behind is deleted by the next."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model.locks import lock


@contextmanager
def temporary_directory(purpose: str) -> Iterator[Path]:
    """A private directory, deleted when the block ends. Deletes first what killed processes left of the same purpose.

    purpose : letters; part of the directory's name
    A directory is locked as long as its process lives. Where there are no locks, nobody else's is deleted.
    """
    prefix = f"apex.{purpose}."
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _delete_abandoned(path)
    path, held = _create_locked(prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _create_locked(prefix: str) -> tuple[Path, int]:
    """Under a name that nobody looks for until it is locked."""
    path = Path(tempfile.mkdtemp(prefix=f"new-{prefix}"))
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):
        lock(held)
    return path.rename(path.with_name(path.name.removeprefix("new-"))), held


def _delete_abandoned(path: Path) -> None:
    with suppress(OSError):  # it is in use, another user's, or gone by now
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            lock(held)
            if os.fstat(held).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(held)
