"""libfaketime: processes whose clock is wrong, or is set while they run."""

import os
import subprocess
from functools import cache
from pathlib import Path

from tests.installed import installed

DAY_S = 24 * 60 * 60


#: The program cannot start under a process id whose shared memory a killed one has left behind.
ATTEMPTS = 10


@cache
def _library() -> str:
    """The path of the library, by the program that loads it."""
    command = [installed("faketime"), "-f", "+0s", "env"]
    attempts = (subprocess.run(command, capture_output=True, text=True) for _ in range(ATTEMPTS))
    lines = next(done.stdout.splitlines() for done in attempts if done.returncode == 0)
    return next(line for line in lines if line.startswith("LD_PRELOAD=")).partition("=")[2]


def clock(file: Path, offset_s: int) -> dict[str, str]:
    """The environment of a process whose clock is off by this much; `set_clock` changes it while the process runs."""
    set_clock(file, offset_s)
    # Only the process's time of day is wrong: neither the clock that measures how long something takes, nor that of the
    # file system.
    steady = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1", "FAKE_UTIME": "1"}
    given = {name: value for name, value in os.environ.items() if not name.startswith("FAKETIME")}
    return given | steady | {"LD_PRELOAD": _library(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}


def set_clock(file: Path, offset_s: int) -> None:
    file.write_text(f"{offset_s:+d}s\n")
