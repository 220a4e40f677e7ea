"""Memory, descriptors and lives of a service's processes, and what is wrong with them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.chaos.faults import KINDS, Family
from tests.e2e.wire import descriptors, memory_bytes

#: Of its memory after the warm-up.
MAX_MEMORY_RATIO = 1.2
#: Connections that clients keep, and those of Redis that threads share.
SPARE_DESCRIPTORS = 64
#: Redis keeps what it is told to keep.
WITH_MEMORY_LIMIT = ("api", "worker")


@dataclass(frozen=True)
class Vitals:
    """A process at a moment."""

    kind: str
    memory_bytes: int
    descriptors: int


def vitals(family: Family) -> dict[int, Vitals]:
    """The processes of a service by their ids, its supervisor among them."""
    kinds = {pid: kind for kind in KINDS for pid in family.pids(kind)} | {family.supervisor_pid: "supervisor"}
    found = {}
    for pid, kind in kinds.items():
        try:
            found[pid] = Vitals(kind, memory_bytes(pid), descriptors(pid))
        except (OSError, ValueError):
            """It ended at this moment."""
    return found


def complaints(
    before: Mapping[int, Vitals],
    now: Mapping[int, Vitals],
    *,
    may_end: Collection[str],
    max_memory_ratio: float = MAX_MEMORY_RATIO,
) -> list[str]:
    """What is wrong with a service now, compared with what it was after its warm-up."""
    ended = [f"{it.kind} ended" for pid, it in before.items() if pid not in now and it.kind not in may_end]
    missing = {it.kind for it in before.values()} - {it.kind for it in now.values()}
    grown = [
        f"{now[pid].kind}: {ratio:.2f} of its memory"
        for pid, ratio in memory_ratios(before, now).items()
        if ratio > max_memory_ratio
    ]
    leaked = [
        f"{now[pid].kind}: {now[pid].descriptors - it.descriptors:+d} descriptors"
        for pid, it in before.items()
        if pid in now and now[pid].descriptors > it.descriptors + SPARE_DESCRIPTORS
    ]
    return ended + [f"no {kind} runs" for kind in missing] + grown + leaked


def memory_ratios(before: Mapping[int, Vitals], now: Mapping[int, Vitals]) -> dict[int, float]:
    """By how much the memory of each process grew that may not grow much."""
    return {
        pid: now[pid].memory_bytes / it.memory_bytes
        for pid, it in before.items()
        if pid in now and it.kind in WITH_MEMORY_LIMIT
    }
