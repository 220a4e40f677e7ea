"""Clocks that go wrong, by libfaketime: a file for each kind of process says how far its clock is off."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.faketime import clock, set_clock

#: What Python must know of libfaketime: a `sitecustomize`.
PRELOADED = Path(__file__).parent / "preloaded"
#: A process may go by what its file said until so long ago.
CACHED_S = 1
KINDS = ("api", "worker", "redis")


def can_be_wrong() -> bool:
    """Whether this machine can fake them."""
    return shutil.which("faketime") is not None


class Clocks:
    """The clocks of a service's processes, in a folder that its environment names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def environment(self, kind: str) -> Mapping[str, str]:
        """With it a process reads its clock here."""
        paths = [str(PRELOADED), os.environ.get("PYTHONPATH", "")]
        # Under load it matters that the file is not read at each look at the clock.
        cached = {"FAKETIME_NO_CACHE": "0", "FAKETIME_CACHE_DURATION": str(CACHED_S)}
        return clock(self.directory / kind, 0) | cached | {"PYTHONPATH": os.pathsep.join(paths)}

    @contextmanager
    def wrong(self, kind: str, offset_s: int) -> Iterator[None]:
        """The clock of a kind of process is off by so much, and then right again, each within `CACHED_S`."""
        set_clock(self.directory / kind, offset_s)
        try:
            yield
        finally:
            set_clock(self.directory / kind, 0)
