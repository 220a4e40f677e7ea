"""Keeps a set of processes alive: starts them, restarts one that dies, and stops them all together.

Children run in sessions of their own, so that Ctrl-C reaches them once, through here. One that cannot be started is
treated as one that died. The kernel ends them when the supervisor is killed.
"""

import logging
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from app.core.misconfiguration import EXIT_MISCONFIGURED, Misconfigured
from app.core.signals import INSTANCE_ID_VAR, STOP_SIGNALS, ignore_hangup
from model.oom_kills import oom_kills
from model.parent_death import tied_to_this_process

log = logging.getLogger(__name__)

POLL_S = 0.2
#: Short even after many deaths: what kills a worker may be one job, and the others wait behind it.
BACKOFF_S = (0.5, 1, 2, 5)
#: A process that lived this long is healthy: its next death is a first one.
HEALTHY_AFTER_S = 60.0


@dataclass
class Child:
    """One process to keep alive, and how often it was started."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    #: Descriptors that are passed on to it.
    pass_fds: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    instance_id: str = ""
    restarts: int = 0
    started_at: float = 0.0
    start_after: float = 0.0
    n_oom_kills: int = 0

    def start(self) -> None:
        self.started_at, self.n_oom_kills = time.monotonic(), oom_kills()
        self.instance_id = secrets.token_hex(8)
        env = os.environ | dict(self.env) | {INSTANCE_ID_VAR: self.instance_id}
        command = tied_to_this_process(self.command)
        self.process = subprocess.Popen(command, env=env, pass_fds=self.pass_fds, start_new_session=True)

    def ended_for_lack_of_memory(self, code: int) -> bool:
        """Whether the kernel may have ended it: it has ended some process since, for lack of memory, in this way."""
        return code == -signal.SIGKILL and oom_kills() > self.n_oom_kills

    def back_off(self, reason: str) -> None:
        """Note why the process does not run, and when it may be started again."""
        now = time.monotonic()
        self.restarts = 1 if now - self.started_at > HEALTHY_AFTER_S else self.restarts + 1
        delay_s = BACKOFF_S[min(self.restarts, len(BACKOFF_S)) - 1]
        self.process, self.start_after = None, now + delay_s
        log.error("%s %s: starting it again in %s s", self.name, reason, delay_s)


class Supervisor:
    """`run()` returns when a stop was asked for and every child has ended.

    `on_tick` may take its time, on a thread of its own; `on_poll` runs on the thread that starts the children, and
    `on_stop` before they are told to stop.
    Raises `Misconfigured`, after all children have ended, when one of them cannot work as it is configured.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        stop_timeout_s: float = 30.0,
        every_s: float = 3.0,
        on_tick: Callable[[], object] = lambda: None,
        on_poll: Callable[[], object] = lambda: None,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        self.children = children
        self.stop_timeout_s = stop_timeout_s
        self.every_s = every_s
        self.on_tick = on_tick
        self.on_poll = on_poll
        self.on_stop = on_stop
        #: Instance ids of processes that have ended, and whether for lack of memory: a job that one ran is orphaned.
        self.ended: dict[str, bool] = {}
        self._stop = threading.Event()

    def stop(self, signum: int | None = None, frame: FrameType | None = None) -> None:  # noqa: ARG002
        """Ask for the end, or again, to hurry it; safe in a signal handler and from another thread."""
        if self._stop.is_set():
            self._signal(signal.SIGINT)
        self._stop.set()

    def run(self) -> None:
        """Supervise until `stop`. SIGTERM and SIGINT stop it when this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            ignore_hangup()
            for number in STOP_SIGNALS:
                signal.signal(number, self.stop)
        ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        ticker.start()
        try:
            while not self._stop.wait(POLL_S):
                self.on_poll()
                for child in self.children:
                    self._restart(child)
        finally:
            self._stop.set()
            self._end()
            ticker.join(timeout=self.every_s)

    def _restart(self, child: Child) -> None:
        if child.process and (code := child.process.poll()) is not None:
            if code == EXIT_MISCONFIGURED:
                raise Misconfigured(f"{child.name} cannot start; the log above says why")
            lacked_memory = self.ended[child.instance_id] = child.ended_for_lack_of_memory(code)
            child.back_off(f"ended with code {code}{', as the kernel ends for lack of memory' * lacked_memory}")
        if child.process is None and time.monotonic() >= child.start_after:
            self._start(child)

    def _start(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:  # no process, memory or descriptor to be had at this moment
            child.back_off(f"could not be started ({error.strerror or error})")

    def _tick(self) -> None:
        while not self._stop.wait(self.every_s):
            try:
                self.on_tick()
            except Exception:
                log.exception("periodic work failed; it is tried again")

    def _end(self) -> None:
        self.on_stop()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self.stop_timeout_s
        for process in self._living():
            _wait_or_kill(process, deadline)

    def _signal(self, signum: signal.Signals) -> None:
        for process in self._living():
            process.send_signal(signum)

    def _living(self) -> list[subprocess.Popen[bytes]]:
        return [child.process for child in self.children if child.process]


def _wait_or_kill(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
