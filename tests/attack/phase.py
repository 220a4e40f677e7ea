"""A phase of an attack: what it does, what it may kill, and what it needs of the machine."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from random import Random
from threading import Lock
from typing import TypeVar

from tests.attack.target import Target

T = TypeVar("T")


@dataclass
class Acts:
    """What a phase did and found. Written by many threads."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def did(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def found(self, what: str) -> None:
        """Note something that must not be."""
        with self._lock:
            self.findings[what] += 1


@dataclass(frozen=True)
class Attack:
    """One phase as it runs against a target, until `ends_at` on the monotonic clock. The dice decide what it does.

    `victims` gives ids of jobs that belong to somebody else.
    """

    target: Target
    dice: Random
    ends_at: float
    victims: Callable[[], Collection[str]]
    acts: Acts = field(default_factory=Acts)

    def goes_on(self) -> bool:
        return time.monotonic() < self.ends_at

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the end of the phase."""
        time.sleep(max(0.0, min(seconds, self.ends_at - time.monotonic())))

    def each(self, table: Mapping[str, T]) -> Iterator[T]:
        """The entries of a table in a drawn order, again and again until the phase is over; one at least."""
        while True:
            for name in self.dice.sample(sorted(table), len(table)):
                self.acts.did(name)
                yield table[name]
                if not self.goes_on():
                    return

    def inflict(
        self,
        faults: "Mapping[str, Callable[[Attack], AbstractContextManager[object]]]",
        *,
        for_s: tuple[float, float],
        rest_s: tuple[float, float],
    ) -> None:
        """One fault after another, each for a while, with a while of health behind it."""
        for fault in self.each(faults):
            with fault(self):
                self.wait(self.dice.uniform(*for_s))
            self.wait(self.dice.uniform(*rest_s))

    def crowd(self, size: int, member: "Callable[[Attack], object]") -> None:
        """So many attackers at a time, each with dice of its own."""
        members = [replace(self, dice=Random(self.dice.random())) for _ in range(size)]
        with ThreadPoolExecutor(size) as pool:
            list(pool.map(member, members))


@dataclass(frozen=True)
class Phase:
    """A row of the table of phases.

    `kills` names the kinds of processes that may end. `lacks` says what this machine lacks for it, "" for nothing.
    `damages` is the tenant whose own jobs cannot be read: its requests may be answered with an internal error.
    """

    name: str
    attack: Callable[[Attack], object]
    kills: frozenset[str] = frozenset()
    lacks: Callable[[], str] = lambda: ""
    with_clocks: bool = False
    damages: str = ""
