"""The queue as a whole: who stands where, what runs, and how fast the workers are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis

from app.core import stored
from app.core.jobs.backlog import Backlog
from app.core.jobs.models import Job, QueuePosition, Run
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys

#: Under which name the sum of all tenants is stored. No tenant has it.
ALL_TENANTS = ""
#: Weight of the newest track in the measured throughput.
THROUGHPUT_SMOOTHING = 0.2


@dataclass(frozen=True)
class Count:
    """How many jobs of a tenant wait, and their audio."""

    jobs: float
    audio_ms: float


class QueueStatus:
    """Reads positions and runs in progress, and keeps the measured throughput. Every method is blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.redis = redis
        self.keys = keys

    def position(self, job: Job) -> QueuePosition | None:
        """Where a queued job stands, None when it does not wait."""
        return self.positions([job])[0]

    def positions(self, jobs: Iterable[Job]) -> list[QueuePosition | None]:
        """Where several jobs stand, in one round trip."""
        jobs, pipe = list(jobs), self.redis.pipeline(transaction=False)
        pipe.zrange(self.keys.waiting, 0, 0, withscores=True)
        for job in jobs:
            pipe.zrank(self.keys.waiting, job.id, withscore=True)
        first, *found = stored.read_all(pipe, [self.keys.waiting] * (len(jobs) + 1))
        return [_queue_position(rank, first) for rank in found]

    def backlog(self) -> Backlog:
        """What waits."""
        found = cast(dict[bytes, bytes], stored.read(self.redis.hgetall, self.keys.tenant_queues) or {})
        counts = {text(tenant): stored.value_of(Count, self.keys.tenant_queues, raw) for tenant, raw in found.items()}
        audio_s = {tenant: count.audio_ms / 1000 for tenant, count in counts.items() if count}
        total = counts.get(ALL_TENANTS)
        return Backlog(int(total.jobs) if total else 0, audio_s.pop(ALL_TENANTS, 0.0), audio_s)

    def now_s(self) -> float:
        """Seconds since the epoch by Redis's clock, which all times of jobs are by."""
        return redis_now_s(self.redis)

    def running(self) -> list[Run]:
        """The runs in progress, those of workers that died unnoticed among them."""
        found = cast(list[bytes], stored.read(self.redis.hvals, self.keys.running) or [])
        return [run for raw in found if (run := stored.value_of(Run, self.keys.running, raw))]

    def throughput(self) -> float | None:
        """Seconds of audio that one worker scores in a second, smoothed; None before the first track."""
        rate = stored.number(self.keys.throughput, stored.read(self.redis.get, self.keys.throughput))
        return rate if rate and rate > 0 else None

    def record_throughput(self, audio_s_per_s: float) -> None:
        """Count in how fast one worker scored a track."""
        before = self.throughput()
        smoothed = audio_s_per_s if before is None else before + THROUGHPUT_SMOOTHING * (audio_s_per_s - before)
        self.redis.set(self.keys.throughput, smoothed)


def _queue_position(rank: Sequence[float] | None, first: Sequence[tuple[bytes, float]] | None) -> QueuePosition | None:
    if rank is None or not first:
        return None
    position, tag = rank
    return QueuePosition(position=int(position) + 1, tenant_audio_s=max(float(tag) - first[0][1], 0.0))
