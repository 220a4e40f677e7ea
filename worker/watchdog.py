"""Ends a process whose work has stalled, which its heartbeat does not show."""

import errno
import faulthandler

#: By its number, because `sys.stderr` may have been replaced by something without a file.
STDERR = 2


class Watchdog:
    """Ends this process, with a traceback of every thread on stderr, when no `reset` comes for `timeout_s`.

    Its timer is a native thread of the interpreter, which works even while a hanging native call holds the GIL.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    def reset(self) -> None:
        """Start the timer again; the first call starts the watch. Raises OSError when the system refuses a thread."""
        try:
            faulthandler.dump_traceback_later(self.timeout_s, exit=True, file=STDERR)
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread for the watchdog") from error

    def disarm(self) -> None:
        """Stop watching until the next `reset`."""
        faulthandler.cancel_dump_traceback_later()
