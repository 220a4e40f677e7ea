"""What clients saw and what the service holds in the end, and the five ways in which these may disagree.

All sets must be empty. Runs that were begun again are counted, not forbidden.
"""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.core.json_types import Json
from tests.chaos.scripted import SCRIPTED, Script, scores


@dataclass
class History:
    """All that the clients sent and were told. Written by many threads.

    `changes` are endings that changed: what was read first, and what later.
    """

    scripts: dict[str, Script] = field(default_factory=dict)
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    endings: dict[str, bytes] = field(default_factory=dict)
    flipped: set[str] = field(default_factory=set)
    changes: list[tuple[bytes, bytes]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, script: Script) -> None:
        with self._lock:
            self.scripts[script.name] = script

    def acked(self, script: Script, job_id: str) -> None:
        """A 202: from here on the job must not be lost."""
        with self._lock:
            self.acknowledged[script.name].add(job_id)

    def ended(self, job_id: str, body: bytes) -> None:
        """A client read a job that is over. Every later reading must be the same, byte for byte."""
        with self._lock:
            if (first := self.endings.setdefault(job_id, body)) != body:
                self.flipped.add(job_id)
                self.changes.append((first, body))

    def job_ids(self) -> set[str]:
        """Every job that was promised."""
        with self._lock:
            return {job_id for ids in self.acknowledged.values() for job_id in ids}

    def waiting(self) -> set[str]:
        """Promised jobs whose end nobody has read yet."""
        return self.job_ids() - set(self.endings)


def expected(script: Script, job: Json) -> bool:
    """Whether a job that is over ended as its script demands."""
    if script.end == "score":
        return bool(job["status"] == "succeeded" and sound(script, job))
    return bool(job["status"] == "failed" and job["error"]["code"] in ("worker_lost", "internal_error"))


def sound(script: Script, job: Json) -> bool:
    """Whether a scripted scorer's scores are those of its track; any other scorer's are not known beforehand."""
    return bool(job["model"]["name"] != SCRIPTED or job["result"]["scores"] == scores(script.track()))


@dataclass(frozen=True)
class CheckResult:
    """The five sets, by job id or track name, and the names of what was left over."""

    lost: set[str]
    unexpected: set[str]
    flipped: set[str]
    seen_twice: set[str]
    stuck: set[str]
    residue: Mapping[str, Sequence[str]]

    @property
    def sets(self) -> dict[str, set[str]]:
        return {name: getattr(self, name) for name in ("lost", "unexpected", "flipped", "seen_twice", "stuck")}

    @property
    def n_residue(self) -> int:
        return sum(map(len, self.residue.values()))

    @property
    def holds(self) -> bool:
        return not any(self.sets.values()) and not self.n_residue


def check(history: History, jobs: Mapping[str, Json], residue: Mapping[str, Sequence[str]]) -> CheckResult:
    """Compare the clients' history with all the jobs that the service holds, as JSON by id."""
    made = defaultdict(set)
    for job_id, job in jobs.items():
        made[job["external_id"]].add(job_id)
    over = {job_id: job for job_id, job in jobs.items() if job["done"]}
    return CheckResult(
        lost=history.job_ids() - set(jobs),
        unexpected={
            job_id
            for job_id, job in over.items()
            if job["external_id"] not in history.scripts or not expected(history.scripts[job["external_id"]], job)
        },
        flipped=history.flipped,
        seen_twice={name for name, ids in made.items() if len(ids | history.acknowledged[name]) > 1},
        stuck=set(jobs) - set(over),
        residue=residue,
    )
