"""Locks on open files and folders, which the system releases when their holder ends. `filelock` has its own files."""

import fcntl
import os
from typing import IO, Any


def lock(file: int | IO[Any]) -> None:
    """Lock an open file for this process alone.

    Raises `BlockingIOError` where another holds it, other `OSError`s where there are no locks.
    """
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether somebody holds it. Raises `OSError` where that cannot be told."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
