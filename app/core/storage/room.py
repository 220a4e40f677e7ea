"""Room on the disk: what is free, less what decoders and open uploads may still need."""

import os
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ScratchRoom:
    """What the workers' decoders may need on the disk of the audio; blocking.

    max_pcm_bytes : samples of the longest track
    n_workers : each decodes one track at a time
    """

    audio_dir: Path | None
    scratch_dir: Path
    max_pcm_bytes: int
    n_workers: Callable[[], int]

    def __call__(self) -> int:
        """Bytes; none where scratch files are on another disk, or the audio on none."""
        if self.audio_dir is None:
            return 0
        scratch_dir = self.scratch_dir if self.scratch_dir.exists() else self.scratch_dir.parent
        if os.stat(scratch_dir).st_dev != os.stat(self.audio_dir).st_dev:
            return 0
        return self.n_workers() * self.max_pcm_bytes


class Reservations:
    """Bytes that open uploads may still write: those of this process, and of others that count in the same place.

    counts : bytes of each process; shared memory where there are several, of which each changes its own alone
    index : of this process
    Not for use by several threads.
    """

    def __init__(self, counts: MutableSequence[int] | memoryview | None = None, index: int = 0) -> None:
        self._counts: MutableSequence[int] | memoryview = [0] if counts is None else counts
        self._index = index
        self._counts[index] = 0  # what a process of this index reserved before it died

    @property
    def total_bytes(self) -> int:
        """Of all processes."""
        return sum(self._counts)

    def add(self, n_bytes: int) -> None:
        """Reserve more for this process; less where it is negative."""
        self._counts[self._index] += n_bytes

    @contextmanager
    def reserve(self, n_bytes: int) -> Iterator["Reservation"]:
        """Reserve room for an upload until the block ends."""
        reservation = Reservation(self, n_bytes)
        try:
            yield reservation
        finally:
            reservation.use(reservation.remaining_bytes)


class Reservation:
    """What one upload may still write."""

    def __init__(self, reservations: Reservations, n_bytes: int) -> None:
        self.remaining_bytes = n_bytes
        self._reservations = reservations
        reservations.add(n_bytes)

    def use(self, n_bytes: int) -> None:
        """Count bytes that have come: from now on the disk itself knows them."""
        n_bytes = min(n_bytes, self.remaining_bytes)
        self.remaining_bytes -= n_bytes
        self._reservations.add(-n_bytes)
