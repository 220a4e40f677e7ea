"""Tracks that say what their run shall do: score after a while, or take the worker down with it.

A track is a second of noise as a WAV file, which any decoder takes, with its script in a chunk of its own;
`tests.chaos.process` plays it.
"""

import ctypes
import hashlib
import json
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from model.domain import SCORE_RANGES

#: The name of the model that plays scripts.
SCRIPTED = "scripted"
RATE_HZ = 8_000
FORMAT = struct.pack("<HHIIHH", 1, 1, RATE_HZ, RATE_HZ, 1, 8)
NOISE_S = 1.1


class Unpicklable(Exception):
    """Carries what no serializer takes."""


def segfault() -> None:
    ctypes.string_at(0)


def hang() -> None:
    """Hang in native code and never let go of the interpreter's lock."""
    ctypes.PyDLL(None).sleep(3600)


def out_of_memory() -> None:
    """End as the kernel ends a process that took too much."""
    os.kill(os.getpid(), signal.SIGKILL)


def huge_error() -> None:
    raise RuntimeError("x" * 50_000_000)


def unpicklable_error() -> None:
    raise Unpicklable(lambda: None)


def score() -> None:
    """Go on to the scores."""


ENDS: dict[str, Callable[[], object]] = {
    "score": score,
    "segfault": segfault,
    "exit": lambda: os._exit(1),
    "sys.exit": sys.exit,
    "out of memory": out_of_memory,
    "hang": hang,
    "huge error": huge_error,
    "unpicklable error": unpicklable_error,
}


@dataclass(frozen=True)
class Script:
    """What a run shall do: take `run_s` for `n_segments`, and then end in one of the ways of `ENDS`."""

    name: str
    run_s: float = 0.1
    n_segments: int = 2
    end: str = "score"

    def track(self) -> bytes:
        noise = random.Random(self.name).randbytes(int(NOISE_S * RATE_HZ))
        script = json.dumps(asdict(self)).encode()
        body = b"WAVE" + chunk(b"fmt ", FORMAT) + chunk(b"json", script) + chunk(b"data", noise)
        return chunk(b"RIFF", body)

    @classmethod
    def of(cls, track: bytes) -> "Script":
        at = track.index(b"json")
        (size,) = struct.unpack_from("<I", track, at + 4)
        return cls(**json.loads(track[at + 8 : at + 8 + size]))

    def play(self) -> None:
        """One segment of the run."""
        time.sleep(self.run_s / self.n_segments)
        ENDS[self.end]()


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a RIFF file, of an even length."""
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def scores(track: bytes) -> dict[str, float]:
    """The scores of a track: the same bytes always give the same, other bytes others."""
    digest = hashlib.sha256(track).digest()
    return {name: low + (high - low) * digest[at] / 255 for at, (name, (low, high)) in enumerate(SCORE_RANGES.items())}
