"""Ends a process whose work stands still. A beating heart proves that a process lives, not that its model moves."""

import faulthandler

#: By its number: whoever replaces `sys.stderr` may give it no file.
STDERR = 2


class Watchdog:
    """Ends this process, with a traceback of every thread on stderr, when no `reset` comes for `timeout_s`.

    Its clock is a native thread of the interpreter: it bites even when a hanging native call holds the GIL.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    def reset(self) -> None:
        """Say that work moves; the first touch starts the watch."""
        faulthandler.dump_traceback_later(self.timeout_s, exit=True, file=STDERR)

    def disarm(self) -> None:
        """Watch no more until the next touch."""
        faulthandler.cancel_dump_traceback_later()
