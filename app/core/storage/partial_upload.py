"""An upload that is being received into storage."""

import errno
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from app.core.problems import Problem

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class PartialUpload(ABC):
    """Bytes being received for a key: counted as they come, hashed as they are written, dropped unless committed.

    Nothing is stored before the first flush, so an upload rejected by its first bytes never touches the storage.
    Methods that touch it block, and hold a lock, because a cancelled upload is discarded while a thread may still be
    writing.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.size_bytes = 0
        self.pending = bytearray()
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()
        self._begun = False
        self._closed = False

    @property
    def sha256(self) -> str:
        """Of all bytes; raises `ValueError` while some are not flushed."""
        if self.pending:
            raise ValueError("the digest is of what is flushed")
        return self._digest.hexdigest()

    @property
    def holds_storage(self) -> bool:
        """Whether there is something to discard."""
        return self._begun and not self._closed

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes to `pending`, in memory, until a flush. Does not block."""
        self.pending += data
        self.size_bytes += len(data)

    def flush(self) -> None:
        """Write what is pending. Not durable until `commit`."""
        with self._lock, storage_problems():
            self._flush()

    def commit(self) -> None:
        """Make all bytes durable under the key. When this raises, nothing is kept."""
        with self._lock, storage_problems():
            self._flush()
            self._begin()
            self._commit()
            self._closed = True

    def discard(self) -> None:
        """Drop what was written, unless it was committed."""
        with self._lock:
            if self.holds_storage:
                self._discard()
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _flush(self) -> None:
        block, self.pending = self.pending, bytearray()
        if block:
            self._begin()
            self._write(block)
            self._digest.update(block)

    def _begin(self) -> None:
        if self._closed:
            raise ValueError("the upload is committed or discarded")
        if not self._begun:
            self._open()
            self._begun = True

    @abstractmethod
    def _open(self) -> None:
        """Begin to store. Called once, before the others."""

    @abstractmethod
    def _write(self, block: bytearray) -> None:
        """Store the next bytes, which may be kept but not changed."""

    @abstractmethod
    def _commit(self) -> None:
        """Make what was written durable under the key."""

    @abstractmethod
    def _discard(self) -> None:
        """Drop what was written. Raises nothing that can be left to the reconciler."""


@contextmanager
def storage_problems() -> Iterator[None]:
    """Turn an error of the storage into the problem that a client gets."""
    try:
        yield
    except OSError as error:
        code = "storage_full" if error.errno in _FULL else "storage_unavailable"
        raise Problem(code) from error
