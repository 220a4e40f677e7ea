"""Faults: signals to the processes of a running service, at random but by a seed.

Every target is a descendant of the service's own supervisor, found by its process id.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from tests.e2e.service import children, command

#: How the processes of a service are told apart.
KINDS = {"worker": (".process",), "api": ("app.cli api",), "redis": ("valkey-server", "redis-server")}


@dataclass(frozen=True)
class Fault:
    """A signal to a kind of process; with `pause_s`, it is stopped for so long and then goes on."""

    target: str
    signal: signal.Signals
    weight: int
    pause_s: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        return f"{self.signal.name} {self.target}"

    def strike(self, pid: int, dice: random.Random) -> None:
        os.kill(pid, self.signal)
        if self.pause_s:
            time.sleep(dice.uniform(*self.pause_s))
            os.kill(pid, signal.SIGCONT)


PROCESS_FAULTS = (
    Fault("worker", signal.SIGKILL, weight=45),
    Fault("worker", signal.SIGTERM, weight=15),
    Fault("worker", signal.SIGSTOP, weight=15, pause_s=(0.5, 0.5)),
    Fault("api", signal.SIGKILL, weight=15),
    Fault("api", signal.SIGTERM, weight=5),
    Fault("api", signal.SIGSTOP, weight=5, pause_s=(0.5, 0.5)),
)
REDIS_FAULTS = (
    Fault("redis", signal.SIGKILL, weight=80),
    Fault("redis", signal.SIGSTOP, weight=20, pause_s=(0.5, 4.0)),
)


class Processes(Protocol):
    """Where a fault finds its victims."""

    def pids(self, kind: str) -> list[int]:
        """The living processes of a kind."""


@dataclass(frozen=True)
class Family:
    """The children of one supervisor."""

    supervisor_pid: int

    def pids(self, kind: str) -> list[int]:
        return [pid for pid in children(self.supervisor_pid) if any(word in command(pid) for word in KINDS[kind])]


class Injector:
    """Strikes until it is told to stop: a process every `every_s`, Redis every `redis_every_s`."""

    def __init__(self, processes: Processes, *, seed: int, every_s: tuple[float, float], redis_every_s: float) -> None:
        self.processes = processes
        self.dice = random.Random(seed)
        self.every_s = every_s
        self.redis_every_s = redis_every_s
        self.struck: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        next_redis_at = time.monotonic() + self.redis_every_s
        while not stop.wait(self.dice.uniform(*self.every_s)):
            if time.monotonic() >= next_redis_at:
                self.strike(REDIS_FAULTS)
                next_redis_at = time.monotonic() + self.redis_every_s
            else:
                self.strike(PROCESS_FAULTS)

    def strike(self, faults: tuple[Fault, ...]) -> None:
        [fault] = self.dice.choices(faults, weights=[fault.weight for fault in faults])
        if victims := self.processes.pids(fault.target):
            with suppress(ProcessLookupError):  # it died on its own meanwhile
                fault.strike(self.dice.choice(victims), self.dice)
                self.struck[fault.name] += 1
