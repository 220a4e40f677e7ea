"""Random access to an untrusted file, and a file made of parts of another one. Standard library only."""

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

_WINDOW_BYTES = 256 * 1024

#: Bytes that stand for themselves, or a range of the source.
Part = bytes | range


class Source:
    """Reads any place of an open file, through a window that makes many small reads near one another cheap."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.n_bytes = os.fstat(fd).st_size
        self._window, self._window_at = b"", 0

    def read_at(self, at: int, n_bytes: int) -> bytes:
        """Up to so many bytes from a place: fewer only at the end of the file, none behind it."""
        if at >= self.n_bytes:
            return b""
        offset = at - self._window_at
        if offset < 0 or offset + n_bytes > len(self._window):
            self._window, self._window_at = self._pread(at, max(n_bytes, _WINDOW_BYTES)), at
            offset = 0
        return self._window[offset : offset + n_bytes]

    def find(self, mark: bytes, at: int, end: int) -> int:
        """Where a mark begins at or behind a place and before an end; -1 where it does not."""
        while at < end:
            window = self.read_at(at, min(_WINDOW_BYTES, end - at + len(mark) - 1))
            if len(window) < len(mark):
                return -1
            found = window.find(mark)
            if found >= 0:
                return at + found if at + found < end else -1
            at += len(window) - len(mark) + 1
        return -1

    def _pread(self, at: int, n_bytes: int) -> bytes:
        data = os.pread(self._fd, n_bytes, at)
        while 0 < len(data) < n_bytes:  # a short read is not the end of the file
            more = os.pread(self._fd, n_bytes - len(data), at + len(data))
            if not more:
                break
            data += more
        return data


class PartsFile(io.RawIOBase):
    """A file to read that consists of parts of a source, one behind the other."""

    def __init__(self, source_fd: int, parts: Sequence[Part]) -> None:
        self._fd = source_fd
        self._parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self._parts))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        if base + offset < 0:
            raise ValueError("a place before the start")
        self._at = base + offset
        return self._at

    def read(self, n_bytes: int = -1) -> bytes:
        """So many bytes, fewer only at the end; the rest of the file where the number is negative."""
        pieces, wanted = list[bytes](), n_bytes
        while wanted:
            piece = self._read_in_part(wanted)
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read_in_part(self, wanted: int) -> bytes:
        index = bisect_right(self._ends, self._at)
        if index == len(self._parts):
            return b""
        part = self._parts[index]
        offset = self._at - (self._ends[index] - len(part))
        n_bytes = len(part) - offset if wanted < 0 else min(wanted, len(part) - offset)
        piece = part[offset : offset + n_bytes] if isinstance(part, bytes) else os.pread(
            self._fd, n_bytes, part.start + offset
        )  # fmt: skip
        self._at += len(piece)
        return piece
