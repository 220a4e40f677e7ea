"""What signals mean to processes of the service: SIGTERM and SIGINT stop one, another hurries it, SIGHUP is ignored."""

import os
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: In the environment of every supervised process: an id of this start of it.
INSTANCE_ID_VAR = "APEX_SUPERVISED"


def hurry_signals() -> frozenset[signal.Signals]:
    """What hurries the stop of this process once it has begun.

    For a supervised one SIGTERM is not among them. Who stops a whole group of processes sends it one, and its
    supervisor, which the group has too, sends it another.
    """
    return frozenset([signal.SIGINT] if INSTANCE_ID_VAR in os.environ else STOP_SIGNALS)


def ignore_hangup() -> None:
    """Go on after SIGHUP, which would end this process at once. Its children inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
