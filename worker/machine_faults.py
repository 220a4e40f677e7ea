"""Faults of the machine that a worker runs on: which errors are such, and how long the worker pauses for them.

A job is not to blame for a full disk or for a process that could not be had. Its run does not count, and its worker
takes no other job before the fault has passed.
"""

import errno
import logging
import time
from collections.abc import Callable

from app.core.jobs.models import Job
from model.audio.sandbox.forkserver import ForkServerError

log = logging.getLogger(__name__)

#: What the kernel reports about disks, shared folders, processes, memory, descriptors and rights.
_ERRNOS = frozenset(
    [
        *(errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
        *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ENXIO),
        *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.EBUSY),
    ]
)

#: For so long after a fault of a machine first ended one of its runs, a job is handed back. Later such runs count, so
#: that a job whose audio is lost for good comes to its end.
HAND_BACK_S = 3600.0

#: Seconds of the pause after one fault, two in a row, and more. Short, so that work goes on soon after the fault.
BACKOFF_S = (1.0, 2.0, 5.0)


def is_machine_fault(error: OSError) -> bool:
    """Whether an error says something of the machine, and nothing of the track."""
    return isinstance(error, ForkServerError) or error.errno in _ERRNOS


def may_hand_back(job: Job, hand_back_s: float = HAND_BACK_S) -> bool:
    """Whether a running job's first fault of a machine is recent, or this is the first. All times are Redis's."""
    since, now = job.machine_fault_at, job.started_at or 0.0
    return since is None or since <= now <= since + hand_back_s


class Pause:
    """The pause of a worker whose machine is at fault. It is longer after each fault in a row.

    probe : raises OSError as long as a job would fail; tried when the time is over
    check : raises OSError when a pause must begin; tried before each job
    """

    def __init__(self, probe: Callable[[], object], *, check: Callable[[], object] = lambda: None) -> None:
        self._probe = probe
        self._check = check
        self._n_faults = 0
        self._until: float | None = None

    @property
    def active(self) -> bool:
        return self._until is not None

    @property
    def remaining_s(self) -> float:
        return max((self._until or 0.0) - time.monotonic(), 0.0)

    def begin(self, fault: OSError) -> None:
        """Note a fault: no job is taken for a time."""
        delay_s = BACKOFF_S[min(self._n_faults, len(BACKOFF_S) - 1)]
        # Each longer pause once: a disk that stays full for a day is not said every few seconds.
        level = logging.ERROR if self._n_faults < len(BACKOFF_S) else logging.DEBUG
        log.log(level, "paused: this machine is at fault, which is looked at again in %g s: %s", delay_s, fault)
        self._n_faults += 1
        self._until = time.monotonic() + delay_s

    def begin_if_ill(self) -> None:
        """Begin a pause when the check fails."""
        try:
            self._check()
        except OSError as fault:
            self.begin(fault)

    def end_if_well(self) -> None:
        """End the pause when its time is over and the probe passes; begin a longer one when it does not."""
        if self.remaining_s:
            return
        try:
            self._probe()
        except OSError as fault:
            self.begin(fault)
        else:
            self._until = None
            log.warning("taking jobs again")

    def forget(self) -> None:
        """A run was not disturbed: the next fault is a first one."""
        self._n_faults = 0
