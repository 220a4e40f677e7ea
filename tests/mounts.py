"""File systems mounted for a while: small disks, folders that cannot be written, folders whose disk is gone."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotMount(Exception):
    """A file system was not mounted; the text says why."""


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of its own in memory. Raises `CannotMount`."""
    directory.mkdir(parents=True, exist_ok=True)
    with mounted(directory, "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs"):
        yield directory


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """The folder can be read and not written; files that are open for writing stay so."""
    with _read_only_copy(directory) as copy, mounted(directory, "--bind", str(copy)):
        yield


@contextmanager
def _read_only_copy(directory: Path) -> Iterator[Path]:
    """The folder at another place, where nobody writes: one through which a file is being written stays writable."""
    copy = Path(tempfile.mkdtemp())
    with mounted(copy, "--bind", str(directory)):
        _mount("-o", "remount,bind,ro", str(copy))
        yield copy
    copy.rmdir()


@contextmanager
def gone(directory: Path) -> Iterator[None]:
    """The folder is empty and cannot be written, as the place where a disk is not mounted; then it is back."""
    with mounted(directory, "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs"):
        yield


@contextmanager
def mounted(directory: Path, *arguments: str) -> Iterator[None]:
    """What `mount` is told to mount, over a folder."""
    _mount(*arguments, str(directory))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def may_mount() -> bool:
    """Whether a file system can be mounted here."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with small_disk(Path(directory), 4096):
                return True
        except CannotMount:
            return False


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        raise CannotMount("this is not root")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise CannotMount(done.stderr.strip())


@contextmanager
def filled(directory: Path, *, leaving_bytes: int = 0) -> Iterator[None]:
    """The disk with no more room than that, until the block ends."""
    filler = directory / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while (room := _free_bytes(directory) - leaving_bytes) > 0:
                file.write(bytes(min(room, 1 << 20)))
    except OSError:
        """No byte is left."""
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)


def _free_bytes(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
