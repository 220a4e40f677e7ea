"""Have the kernel signal a process when its parent is gone. Works on Linux, needs the standard library only.

As a script, `parent_death.py PROGRAM [ARGUMENT...]` becomes the program, which gets SIGTERM when its parent is gone.
"""

import ctypes
import os
import signal
import sys

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


def main() -> None:
    try:
        signal_on_parent_death(signal.SIGTERM)
    except OSError:
        """The program runs all the same."""
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606


if __name__ == "__main__":
    main()
