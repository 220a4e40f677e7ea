"""Audio storage: one flat, private directory of uploaded files under random keys.

The HTTP front end writes it; the workers read and delete. Knows nothing of jobs and parses no file. Blocking.
"""

import errno
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.core.storage import keys
from app.core.storage.partial_upload import PartialUpload
from model.files import sync
from model.locks import is_locked, lock

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"
#: The service is ready while this many uploads of the largest size fit: one, and what other processes may receive.
MIN_FREE_UPLOADS = 2
#: An upload whose process was killed is deleted when nothing was written into it for so long.
ABANDONED_AFTER_S = 60.0
_PARTIAL = re.compile(rf"[0-9a-f]{{1,64}}{re.escape(PART_SUFFIX)}")
#: Which deployment's folder it is. No key has a dot, so no sweep takes this file, of whatever version.
MARKER = ".deployment"
#: The key of an upload that is only tried.
PROBE = "probe"


class FolderStorage:
    """Keeps complete files under keys. What is under a key is complete and synced; a partial upload ends in `.part`.

    `scratch_bytes` tells what others on the same disk may need at any time.
    """

    #: Soon enough for the upload of a killed process.
    sweep_every_s = 60.0

    def __init__(self, directory: Path, *, scratch_bytes: Callable[[], int] = lambda: 0) -> None:
        self.directory = directory
        self._scratch_bytes = scratch_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __str__(self) -> str:
        return str(self.directory)

    def marker(self) -> str | None:
        """The id of the deployment whose storage this is; None while it is nobody's."""
        try:
            return (self.directory / MARKER).read_text("utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None

    def create_marker(self, deployment_id: str) -> str:
        """Make this the storage of a deployment, durably, unless it is one's already; the id of that one."""
        partial = self.directory / f"{MARKER}.{secrets.token_hex(8)}"
        try:
            partial.write_text(f"{deployment_id}\n", "utf-8")
            sync(partial)
            _link(partial, self.directory / MARKER)
        finally:
            delete_if_possible(partial)
        self.sync()
        return (self.directory / MARKER).read_text("utf-8").strip()

    def has(self, key: str) -> bool:
        """Whether there is a file under a key."""
        return self.path(key).exists()

    def receive(self, job_id: str) -> "PartialFile":
        """A new file to write into, whose key will be the job's id."""
        return PartialFile(self, self.path(job_id).name)

    def path(self, key: str) -> Path:
        """Where a key's bytes are or will be. Raises `ValueError` for anything that could leave the directory."""
        return self.directory / (key if _PARTIAL.fullmatch(key) else keys.checked(key))

    def open(self, key: str) -> BinaryIO:
        """The bytes of a key; `FileNotFoundError` when they are gone."""
        return self.path(key).open("rb")

    def delete(self, key: str) -> None:
        """Delete a key's file; a missing one is no error. One that cannot be deleted now is left to the reconciler."""
        delete_if_possible(self.path(key))

    def orphans(self, *, older_than_s: float) -> Iterator[str]:
        """Names of files last written longer ago than this, and of uploads that no process receives. Deletes nothing.

        The caller finds out whether a job still needs one.
        """
        now = self._now()
        with os.scandir(self.directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # deleted by a worker meanwhile
                    if _is_ours(entry) and _is_orphan(entry, now - entry.stat().st_mtime, older_than_s):
                        yield entry.name

    def _now(self) -> float:
        """The time by the clock of the file system, which the times of files are by."""
        os.utime(self.directory)
        return self.directory.stat().st_mtime

    def free_bytes(self) -> int:
        """Bytes free on the disk, less the scratch room of the decoders."""
        return shutil.disk_usage(self.directory).free - self._scratch_bytes()

    def check_readable(self) -> None:
        """Raise the OSError that reading any key would meet now. What the front end wrote last is read for a trial."""
        with os.scandir(self.directory) as entries:
            first = next((entry.name for entry in entries if _is_ours(entry)), None)
        if first:
            with suppress(FileNotFoundError):  # deleted by a worker meanwhile
                self.open(first).close()

    def check_deletable(self) -> None:
        """Raise the OSError that deleting the files of other users would meet."""
        found = self.directory.stat()
        if not os.access(self.directory, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "no file can be deleted from it", str(self.directory))
        if found.st_mode & stat.S_ISVTX and os.geteuid() not in (0, found.st_uid):
            raise PermissionError(errno.EPERM, "its sticky bit keeps files of other users", str(self.directory))

    def check_writable(self) -> None:
        """Raise the `Problem` that an upload would meet now."""
        with self.receive(PROBE) as part:
            part.append(b"\0")
            part.flush()

    def sync(self) -> None:
        """Make the directory's names durable."""
        sync(self.directory)


class PartialFile(PartialUpload):
    """An upload into a file of its own name, which is renamed to its key when it is committed."""

    def __init__(self, storage: FolderStorage, key: str) -> None:
        super().__init__(key)
        self._storage = storage
        self._path = storage.path(secrets.token_hex(16) + PART_SUFFIX)

    def _open(self) -> None:
        self._file = self._path.open("xb", buffering=0)
        with suppress(OSError):  # no locks here: an abandoned upload is found by its age
            lock(self._file)

    def _write(self, block: bytearray) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _commit(self) -> None:
        """Fsync, rename, sync the directory."""
        os.utime(self._file.fileno())  # the age of an orphan counts from the commit, however slowly its bytes came
        os.fsync(self._file.fileno())
        self._path = self._path.rename(self._storage.path(self.key))
        self._storage.sync()
        self._file.close()

    def _discard(self) -> None:
        with suppress(OSError):  # its bytes may have found no room
            self._file.close()
        delete_if_possible(self._path)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether it may be an upload. A folder that an operator names may hold other files, which are left alone."""
    return entry.is_file() and (keys.is_of_a_job(entry.name) or _PARTIAL.fullmatch(entry.name) is not None)


def _is_orphan(entry: os.DirEntry[str], age_s: float, older_than_s: float) -> bool:
    if entry.name.endswith(PART_SUFFIX) and age_s > ABANDONED_AFTER_S and not _may_be_received(entry.path):
        return True
    return age_s > older_than_s


def _link(source: Path, target: Path) -> None:
    """Give a file another name, too, unless there is such a file."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:  # no hard links here
        if not target.exists():
            os.replace(source, target)


def _may_be_received(path: str) -> bool:
    """Whether a living process receives an upload into this file, or that cannot be told."""
    try:
        return is_locked(path)
    except OSError:
        return True


def delete_if_possible(path: Path) -> None:
    """Delete a file that nobody needs any more; where the file system refuses, only log that."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a file could not be deleted: %s", error)
