"""Jobs that are queued or running, as the reconciler looks at them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redis import Redis

from app.core import stored
from app.core.jobs.models import FINAL_STATES, UNFINISHED_STATES, Job, JobState, Orphan
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys

#: The lease of a record that an older version wrote, which does not tell its length, is no longer than this.
LONGEST_LEASE_S = 3600.0
#: How far Redis's clock may be set back before a lease of the future is taken for one that is over.
CLOCK_TOLERANCE_S = 1.0
#: Records that are read in one round trip.
SLICE = 500

#: What tells that there is a record, and whether a worker has the job.
FIELDS = ("id", "tenant", "status", "attempt", "handed_back", "lease_until", "lease_s", "worker", "source")


@dataclass
class Standings:
    """What became of some unfinished jobs.

    absent : ids without a record
    finished : the tenants of those that are finished, by their ids: an index that was lost, and given back, has such
    orphaned : those that nobody runs or fetches
    workers : the workers of those that run
    unreadable : ids of which nothing can be told, or that wait for workers of their model
    """

    absent: list[str] = field(default_factory=list)
    finished: dict[str, str] = field(default_factory=dict)
    orphaned: list[Orphan] = field(default_factory=list)
    workers: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Counts:
    """How many ids the indexes have, and RQ's list."""

    unfinished: int
    waiting: int
    running: int
    unfetched: int
    listed: int

    @property
    def longest(self) -> int:
        return max(self.unfinished, self.waiting)

    @property
    def n_missing(self) -> int:
        """How many unfinished jobs are at least in no list: jobs that wait, and those of which nothing is known."""
        n_known = self.waiting + self.running + self.unfetched
        return max(self.waiting - self.listed, 0) + max(self.unfinished - n_known, 0)


@dataclass(frozen=True)
class Window:
    """SLICE ids of each index from one place on, and those that RQ's list has about there."""

    waiting: list[str]
    unfinished: list[str]
    listed: set[str]


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
        """Put back ids that the index has lost: a job that waits, runs or is fetched is known there, too."""
        keys = [self.keys.unfinished, self.keys.waiting, self.keys.running, self.keys.unfetched]
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self.keys.unfinished)
            pipe.zcard(self.keys.waiting)
            pipe.hlen(self.keys.running)
            pipe.zcard(self.keys.unfetched)
            n_unfinished, *n_known = (count or 0 for count in stored.read_all(pipe, keys))
        if n_unfinished >= sum(n_known):
            return
        running = stored.read(self.redis.hgetall, self.keys.running) or {}
        indexes = (self.keys.waiting, self.keys.unfetched)
        waiting = [job_id for index in indexes for job_id in self._members(index, 0, -1)]
        for ids in slices([*waiting, *map(text, running)]):
            found = zip(ids, self.store.get_fields(ids, ["created_at"]), strict=True)
            self.redis.zadd(self.keys.unfinished, {job_id: _number(fields, "created_at") for job_id, fields in found})

    def overdue(self) -> Iterator[Job]:
        """Queued jobs whose deadline has passed, read a slice at a time. Expects that those before are stopped."""
        (seconds, _), n_left = self.redis.time(), 0
        while ids := self._members(self.keys.deadlines, 0, seconds, byscore=True, offset=n_left, num=SLICE):
            yield from (job for job in self.store.get_many(ids) if job and job.status is JobState.QUEUED)
            n_left += len(self._present(self.keys.deadlines, ids))

    def counts(self, queue: ScoreQueue) -> Counts:
        """How many ids there are, in one round trip."""
        keys = [self.keys.unfinished, self.keys.waiting, self.keys.running, self.keys.unfetched, queue.rq.key]
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys[0])
            pipe.zcard(keys[1])
            pipe.hlen(keys[2])
            pipe.zcard(keys[3])
            pipe.llen(keys[4])
            return Counts(*(count or 0 for count in stored.read_all(pipe, keys)))

    def window(self, queue: ScoreQueue, start: int) -> Window:
        """The ids from one place on, in one round trip. RQ's list is in the order in which jobs wait, more or less."""
        end, keys = start + SLICE - 1, [self.keys.waiting, self.keys.unfinished, queue.rq.key]
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys[0], start, end)
            pipe.zrange(keys[1], start, end)
            pipe.lrange(keys[2], max(start - SLICE, 0), end + SLICE)
            waiting, unfinished, listed = (_texts(found) for found in stored.read_all(pipe, keys))
        return Window(waiting, unfinished, set(listed))

    def listed(self, queue: ScoreQueue) -> set[str]:
        """All ids in RQ's list."""
        return set(_texts(stored.read(self.redis.lrange, queue.rq.key, 0, -1)))

    def running_ids(self) -> list[str]:
        """Ids of all running jobs: no more than there are workers, and those that died."""
        return _texts(stored.read(self.redis.hgetall, self.keys.running))

    def strays(self, job_ids: Sequence[str]) -> list[str]:
        """Those of some unfinished jobs that neither wait nor run nor are fetched, by the indexes."""
        if not job_ids:
            return []
        running = stored.read(self.redis.hmget, self.keys.running, job_ids) or [None] * len(job_ids)
        idle = [job_id for job_id, run in zip(job_ids, running, strict=True) if run is None]
        known = self._present(self.keys.waiting, idle)
        known |= self._present(self.keys.unfetched, [job_id for job_id in idle if job_id not in known])
        return [job_id for job_id in idle if job_id not in known]

    def among(self, job_ids: Collection[str]) -> set[str]:
        """Those of some ids that are of unfinished jobs."""
        return self._present(self.keys.unfinished, job_ids) | self._present(self.keys.waiting, job_ids)

    def standings(self, ids: Sequence[str], queue: ScoreQueue) -> Standings:
        """Which of some unfinished jobs nobody runs; in a few round trips."""
        now, found = redis_now_s(self.redis), Standings()
        records, enqueued_at = self.store.get_fields(ids, FIELDS), queue.enqueued_at(ids)
        unfetched = self._present(
            self.keys.unfetched, [job_id for job_id, of in zip(ids, records, strict=True) if _source(of)]
        )
        for job_id, fields, at in zip(ids, records, enqueued_at, strict=True):
            status = fields["status"] if fields else None
            if fields is None:
                found.absent.append(job_id)
            elif status in FINAL_STATES:
                found.finished[job_id] = str(fields["tenant"])
            elif job_id in unfetched:
                continue
            elif status in UNFINISHED_STATES and not leased(fields, now):
                found.orphaned.append(Orphan(job_id, str(fields["tenant"]), _attempts_used(fields), at))
            elif status == JobState.RUNNING and isinstance(fields["worker"], str):
                found.workers[job_id] = fields["worker"]
            else:
                found.unreadable.append(job_id)
        return found

    def _members(self, index: str, first: int, last: int, **options: Any) -> list[str]:
        return _texts(stored.read(self.redis.zrange, index, first, last, **options))

    def _present(self, index: str, job_ids: Collection[str]) -> set[str]:
        """Those of some ids that an index has."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.zscore(index, job_id)
            scores = stored.read_all(pipe, [index] * len(job_ids))
        return {job_id for job_id, score in zip(job_ids, scores, strict=True) if score is not None}


def leased(fields: Json, now: float) -> bool:
    """Whether a lease holds, as `is_ahead` of `app/core/lua/prelude.lua` says: for no longer than its own length."""
    left_s = _number(fields, "lease_until") - now
    return 0 < left_s <= (_number(fields, "lease_s") or LONGEST_LEASE_S) + CLOCK_TOLERANCE_S


def slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in parts that one round trip may have."""
    return (ids[start : start + SLICE] for start in range(0, len(ids), SLICE))


def _texts(found: object) -> list[str]:
    """What a command has read, None for nothing."""
    return [text(job_id) for job_id in cast(Iterable[bytes], found or ())]


def _source(fields: Json | None) -> object:
    return fields and fields["source"]


def _attempts_used(fields: Json) -> int:
    return int(_number(fields, "attempt") - _number(fields, "handed_back"))


def _number(fields: Json | None, name: str) -> float:
    value: Any = (fields or {}).get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0
