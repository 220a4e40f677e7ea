"""Room on the disk: what is free, less what decoders and open uploads may still need."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ScratchRoom:
    """What the workers' decoders may need on the disk of the audio; blocking.

    max_pcm_bytes : samples of the longest track
    n_workers : each decodes one track at a time
    """

    audio_dir: Path
    scratch_dir: Path
    max_pcm_bytes: int
    n_workers: Callable[[], int]

    def __call__(self) -> int:
        """Bytes; none where scratch files are on another disk."""
        scratch_dir = self.scratch_dir if self.scratch_dir.exists() else self.scratch_dir.parent
        if os.stat(scratch_dir).st_dev != os.stat(self.audio_dir).st_dev:
            return 0
        return self.n_workers() * self.max_pcm_bytes


class Reservations:
    """Bytes that the open uploads of this process may still write. Not for use by several threads."""

    def __init__(self) -> None:
        self.total_bytes = 0

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
        reservations.total_bytes += n_bytes

    def use(self, n_bytes: int) -> None:
        """Count bytes that have come: from now on the disk itself knows them."""
        n_bytes = min(n_bytes, self.remaining_bytes)
        self.remaining_bytes -= n_bytes
        self._reservations.total_bytes -= n_bytes
