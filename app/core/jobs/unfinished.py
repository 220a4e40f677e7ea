"""Jobs that are queued or running, as the reconciler looks at them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redis import Redis

from app.core import stored
from app.core.jobs.models import FINAL_STATES, Job, JobState, Orphan
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.redis_client import redis_now_s, text
from app.core.redis_keys import RedisKeys

#: The lease of a record that an older version wrote, which does not tell its length, is no longer than this.
LONGEST_LEASE_S = 3600.0
#: How far Redis's clock may be set back before a lease of the future is taken for one that is over.
CLOCK_TOLERANCE_S = 1.0
#: Records that are read in one round trip.
SLICE = 500

#: What tells that there is a record, and whether a worker has the job.
FIELDS = ("id", "tenant", "status", "attempt", "handed_back", "lease_until", "lease_s", "worker")


@dataclass
class Standings:
    """What became of some unfinished jobs, as far as their records can be read.

    absent : ids without a record
    finished : the tenants of those that are finished, by their ids: an index that was lost, and given back, has such
    orphaned : those that nobody runs
    workers : the workers of those that run
    """

    absent: list[str] = field(default_factory=list)
    finished: dict[str, str] = field(default_factory=dict)
    orphaned: list[Orphan] = field(default_factory=list)
    workers: dict[str, str] = field(default_factory=dict)


class UnfinishedJobs:
    """Finds the unfinished jobs, and those among them that something must be done about. Every method is blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.redis = redis
        self.keys = keys
        self.store = JobStore(redis, keys)

    def ids(self) -> list[str]:
        """Ids of all unfinished jobs: those that wait in their order, so that a lost queue is filled from its front."""
        indexes = (self.keys.waiting, self.keys.unfinished)
        return list(dict.fromkeys(job_id for index in indexes for job_id in self._members(index, 0, -1)))

    def restore(self) -> None:
        """Put back ids that the index has lost: every unfinished job waits or runs, and there it is known too."""
        keys = [self.keys.unfinished, self.keys.waiting, self.keys.running]
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self.keys.unfinished)
            pipe.zcard(self.keys.waiting)
            pipe.hlen(self.keys.running)
            n_unfinished, n_waiting, n_running = (count or 0 for count in stored.read_all(pipe, keys))
        if n_unfinished >= n_waiting + n_running:
            return
        running = stored.read(self.redis.hgetall, self.keys.running) or {}
        for ids in slices([*self._members(self.keys.waiting, 0, -1), *map(text, running)]):
            found = zip(ids, self.store.get_fields(ids, ["created_at"]), strict=True)
            self.redis.zadd(self.keys.unfinished, {job_id: _number(fields, "created_at") for job_id, fields in found})

    def overdue(self) -> Iterator[Job]:
        """Queued jobs whose deadline has passed, read a slice at a time."""
        seconds, _ = self.redis.time()
        ids = self._members(self.keys.deadlines, 0, seconds, byscore=True)
        jobs = (job for some in slices(ids) for job in self.store.get_many(some))
        return (job for job in jobs if job and job.status is JobState.QUEUED)

    def standings(self, ids: Sequence[str], queue: ScoreQueue) -> Standings:
        """Which of some unfinished jobs nobody runs; in a few round trips."""
        now, found = redis_now_s(self.redis), Standings()
        records, enqueued_at = self.store.get_fields(ids, FIELDS), queue.enqueued_at(ids)
        for job_id, fields, at in zip(ids, records, enqueued_at, strict=True):
            status = fields["status"] if fields else None
            if fields is None:
                found.absent.append(job_id)
            elif status in FINAL_STATES:
                found.finished[job_id] = str(fields["tenant"])
            elif status == JobState.QUEUED or (status == JobState.RUNNING and not leased(fields, now)):
                found.orphaned.append(Orphan(job_id, str(fields["tenant"]), _attempts_used(fields), at))
            elif status == JobState.RUNNING and isinstance(fields["worker"], str):
                found.workers[job_id] = fields["worker"]
        return found

    def _members(self, index: str, first: int, last: int, *, byscore: bool = False) -> list[str]:
        found = cast(list[bytes], stored.read(self.redis.zrange, index, first, last, byscore=byscore) or [])
        return [text(job_id) for job_id in found]


def leased(fields: Json, now: float) -> bool:
    """Whether a lease holds, as `is_ahead` of `app/core/lua/prelude.lua` says: for no longer than its own length."""
    left_s = _number(fields, "lease_until") - now
    return 0 < left_s <= (_number(fields, "lease_s") or LONGEST_LEASE_S) + CLOCK_TOLERANCE_S


def slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in parts that one round trip may have."""
    return (ids[start : start + SLICE] for start in range(0, len(ids), SLICE))


def _attempts_used(fields: Json) -> int:
    return int(_number(fields, "attempt") - _number(fields, "handed_back"))


def _number(fields: Json | None, name: str) -> float:
    value: Any = (fields or {}).get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0
