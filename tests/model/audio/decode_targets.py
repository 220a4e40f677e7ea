"""What misbehaving children do; the fork server imports them in place of `model.audio.decoder_child:run`."""

import ctypes
import errno
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from model.audio.decoder_child import Decoded, decode_file, run
from model.audio.sandbox.forkserver import Target
from model.audio.sandbox.layers import LAYERS, ResourceLimits, enter
from model.domain import AudioLimits

TROUBLE = b"trouble"


def _in_trouble(misbehave: Callable[[], object]) -> Target:
    """A child that misbehaves on a file beginning with TROUBLE, and decodes every other."""

    def decode(source: BinaryIO, sink: BinaryIO, limits: AudioLimits) -> Decoded:
        if os.pread(source.fileno(), len(TROUBLE), 0) == TROUBLE:
            misbehave()
        return decode_file(source, sink, limits)

    return lambda request, source_fd, sink_fd: run(request, source_fd, sink_fd, decode)


def _raise(error: Exception) -> None:
    raise error


def _allocate() -> None:
    np.empty(1 << 31, np.uint8)


segfault = _in_trouble(lambda: ctypes.string_at(0))
abort = _in_trouble(os.abort)
leave = _in_trouble(lambda: os._exit(0))
bug = _in_trouble(lambda: _raise(TypeError("a fault of ours")))
shout = _in_trouble(lambda: [os.write(stream, b"shout\n" * 10_000) for stream in (1, 2)])
eat_memory = _in_trouble(_allocate)
spin = _in_trouble(lambda: sum(itertools.repeat(0)))
hang = _in_trouble(lambda: time.sleep(600))
need_a_file = _in_trouble(lambda: Path("/etc/hostname").read_bytes())
fill_disk = _in_trouble(lambda: _raise(OSError(errno.ENOSPC, "disk full")))


def echo(_: dict[str, Any], source_fd: int, sink_fd: int) -> Any:
    """Replies with the value that the file spells in Python, after one sample was written."""
    os.write(sink_fd, bytes(4))
    return eval(os.read(source_fd, 1 << 20) or b"{}")


def describe(_: dict[str, Any]) -> dict[str, Any]:
    """What a fresh child holds before it does anything."""
    return {
        "packages": sorted({name.partition(".")[0] for name in sys.modules}),
        "environment": sorted(os.environ),
        "n_threads": len(os.listdir("/proc/self/task")),
    }


def escape(request: dict[str, Any]) -> dict[str, Any]:
    """Apply some sandbox layers, try every way out, and name those that were open."""
    for name in set(LAYERS) - set(request["layers"]):
        del LAYERS[name]
    up = enter(ResourceLimits(memory_bytes=1 << 30, cpu_s=20, file_bytes=1 << 20))
    ways = {
        "read": lambda: Path("/etc/passwd").read_bytes(),
        "list": lambda: os.listdir("/"),
        "write": lambda: Path(request["file"]).write_bytes(b"!"),
        "connect": lambda: socket.socket().connect(("127.0.0.1", request["port"])),
        "fork": _fork,
        "allocate": _allocate,
        "signal": lambda: os.kill(request["bystander"], 0),
        "root": lambda: os.setuid(0),
    }
    return {"up": up, "open": [name for name, way in ways.items() if _is_open(way)]}


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _is_open(way: Callable[[], object]) -> bool:
    try:
        way()
    except (OSError, MemoryError):
        return False
    return True
