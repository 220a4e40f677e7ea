"""Have the kernel signal a process when its parent is gone. Works on Linux, needs the standard library only.

As a script, `parent_death.py SIGNAL PARENT PROGRAM [ARGUMENT...]` becomes the program, which gets the signal when its
parent, whose process id is PARENT, is gone. If it is gone already the program is not started.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def signal_on_parent_death(signum: int) -> None:
    """Ask for `signum` when the thread that started this process ends; a later change of user takes that back.

    Raises `OSError` on a system that has no such signal.
    """
    try:
        result = _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum))
    except AttributeError as error:  # no prctl outside of Linux
        raise OSError("this system cannot tie a process to its parent") from error
    if result < 0:
        raise OSError(ctypes.get_errno(), "prctl")


def tied_to_this_process(program: Iterable[str], signum: int = signal.SIGTERM) -> list[str]:
    """The command that runs a program so that it gets `signum` when the thread that starts it ends.

    It is asked for before the program runs, and the parent is looked at after that: whenever this process is killed,
    nothing of the program is left.
    """
    return [sys.executable, "-I", "-S", __file__, str(int(signum)), str(os.getpid()), *program]


def main() -> None:
    signum, parent, *program = sys.argv[1:]
    with suppress(OSError):  # the program runs all the same
        signal_on_parent_death(int(signum))
    if os.getppid() == int(parent):
        os.execvp(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
