"""A cache of compiled models on the disk, shared by the processes of one user.

A file is used only if this user wrote it and its hash is right. Knows nothing of what is in the files.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from model.files import atomic_write

log = logging.getLogger(__name__)

#: Bytes, in memory or mapped from a file, whose pages all processes share.
Blob = NDArray[np.uint8]

SUFFIX = ".blob"
#: Files that are kept when one is added; each belongs to other weights or other versions.
N_KEPT = 8


class Cache:
    """Blobs by key, in a directory that only this user can enter. May be shared by any number of processes.

    A file's name carries the hash of its content, and a file appears under its name only when it is complete.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get_or_make(self, key: str, make: Callable[[], Blob]) -> Blob:
        """The blob of a key, made if it is not in the cache. Of several processes that need it, one makes it.

        Where the directory cannot be used, or other users can enter it, a warning is logged and the blob is made.
        """
        try:
            _create_private(self._directory)
            with FileLock(self._directory / f"{key}.lock", fallback_to_soft=False):
                found = self._find(key)
                return self._keep(key, make()) if found is None else found
        except OSError as error:
            log.warning("compiled models are not kept: %s", error)
            return make()

    def remove(self, key: str) -> None:
        """Remove the blob of a key, if there is one."""
        for path in self._directory.glob(f"{key}.*{SUFFIX}"):
            path.unlink(missing_ok=True)

    def _find(self, key: str) -> Blob | None:
        for path in self._directory.glob(f"{key}.*{SUFFIX}"):
            blob = _mapped(path)
            if path.name == _name(key, blob):
                os.utime(path)
                return blob
            log.warning("%s is damaged: making it again", path)
            path.unlink()
        return None

    def _keep(self, key: str, blob: Blob) -> Blob:
        path = self._directory / _name(key, blob)
        try:
            for interrupted in self._directory.glob(f".{key}.*"):  # of a process that was killed while it wrote
                interrupted.unlink()
            with atomic_write(path) as partial:
                partial.write_bytes(blob.data)
        except OSError as error:
            log.warning("a compiled model is not kept: %s", error)
            return blob
        self._drop_oldest()
        return _mapped(path)

    def _drop_oldest(self) -> None:
        by_age = sorted(self._directory.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
        for path in by_age[:-N_KEPT]:
            path.unlink(missing_ok=True)


def _create_private(directory: Path) -> None:
    """Create the directory. Raises PermissionError for one that another user may have written into."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise PermissionError(f"{directory} is open to other users: chmod 700 it, or choose another")


def _name(key: str, blob: Blob) -> str:
    return f"{key}.{hashlib.sha256(blob.data).hexdigest()}{SUFFIX}"


def _mapped(path: Path) -> Blob:
    """The file as memory. Writing into it would copy a page, and never reach the file."""
    return np.memmap(path, np.uint8, mode="c") if path.stat().st_size else np.empty(0, np.uint8)
