"""Where a catalogue's results go: files that appear whole, each written by whoever is first."""

import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from model.files import sync

#: What is half-written for so long was left by a process that was killed.
ABANDONED_AFTER_S = 3_600.0


class Output(Protocol):
    """A place that every node of the cluster reaches. Its text is the name that its user gave it."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet, durably and all at once; false where there is one. Raises `OSError`."""

    def replace(self, name: str, data: bytes | Path) -> None:
        """Write a file, which may be as large as a disk, in the place of one that may be there. Raises `OSError`."""

    def open(self, name: str) -> BinaryIO:
        """A file to read at any position. Raises `FileNotFoundError` where there is none, and `OSError`."""


class OutputFolder:
    """A folder of this machine, or one that every node has under the same path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    def __str__(self) -> str:
        return str(self.directory)

    def create(self, name: str, data: bytes) -> bool:
        target, partial = self._write(name, data)
        try:
            return _link(partial, target)
        finally:
            partial.unlink(missing_ok=True)
            sync(target.parent)

    def replace(self, name: str, data: bytes | Path) -> None:
        target, partial = self._write(name, data)
        os.replace(partial, target)
        sync(target.parent)

    def open(self, name: str) -> BinaryIO:
        return (self.directory / name).open("rb")

    def _write(self, name: str, data: bytes | Path) -> tuple[Path, Path]:
        """The path of a file, and another one beside it that has its bytes."""
        target = self.directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Hidden from those who read the folder; a name of its own, because another process may write the same file.
        partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
        try:
            shutil.copyfile(data, partial) if isinstance(data, Path) else partial.write_bytes(data)
            sync(partial)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        return target, partial

    def delete_abandoned(self, *, older_than_s: float = ABANDONED_AFTER_S) -> None:
        """Delete what killed processes left half-written."""
        for partial in self.directory.rglob(".*.partial"):
            with suppress(OSError):  # its process has just finished it
                if time.time() - partial.stat().st_mtime > older_than_s:
                    partial.unlink()


def _link(source: Path, target: Path) -> bool:
    """Give a file another name, too, unless there is such a file; whether that was done."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # no hard links here
        if target.exists():
            return False
        os.replace(source, target)
    return True
