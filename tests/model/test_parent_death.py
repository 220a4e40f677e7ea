"""A process that ends with its parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from model.parent_death import tied_to_this_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the signal")

#: Starts a program so that it ends with this one, and waits for it.
PARENT = """
import subprocess, sys
from model.parent_death import tied_to_this_process
subprocess.run(tied_to_this_process(sys.argv[1:]))
"""
WAITING = [sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"]


def test_a_program_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, *WAITING], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        assert parent.stdout.read() == b""  # returns when the program has closed its end of the pipe


def output(command: Sequence[str]) -> bytes:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def test_a_program_whose_parent_is_gone_before_it_could_ask_is_not_started() -> None:
    command = tied_to_this_process([sys.executable, "-c", "print('started')"])
    assert output(command) == b"started\n"
    command[command.index(str(os.getpid()))] = "1"
    assert output(command) == b""


def test_the_signal_is_the_one_that_was_asked_for() -> None:
    show = "import ctypes; found = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(found)); print(found.value)"
    command = tied_to_this_process([sys.executable, "-c", show], signal.SIGKILL)
    assert int(output(command)) == signal.SIGKILL
