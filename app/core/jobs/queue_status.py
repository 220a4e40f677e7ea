"""The queue as a whole: who stands where, what runs, and how fast the workers are."""

import json
from collections.abc import Iterable, Sequence
from typing import cast

from redis import Redis

from app.core import redis_keys
from app.core.jobs.models import Job, QueuePosition, Run

#: Weight of the newest track in the measured throughput.
THROUGHPUT_SMOOTHING = 0.2


class QueueStatus:
    """Reads positions and runs in progress, and keeps the measured throughput. Every method is blocking."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def position(self, job: Job) -> QueuePosition | None:
        """Where a queued job stands, None when it does not wait."""
        return self.positions([job])[0]

    def positions(self, jobs: Iterable[Job]) -> list[QueuePosition | None]:
        """Where several jobs stand, in one round trip."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrange(redis_keys.WAITING, 0, 0, withscores=True)
        for job in jobs:
            pipe.zrank(redis_keys.WAITING, job.id, withscore=True)
        first, *found = pipe.execute()
        return [_queue_position(rank, first) for rank in found]

    def next_position(self) -> QueuePosition:
        """Where the next job would stand."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.zcard(redis_keys.WAITING)
        pipe.zrange(redis_keys.WAITING, 0, 0, withscores=True)
        pipe.get(redis_keys.QUEUED_AUDIO_TOTAL)
        count, first, total_s = pipe.execute()
        ahead_s = float(total_s or 0.0) - first[0][1] if first else 0.0
        return QueuePosition(position=count + 1, audio_seconds_ahead=max(ahead_s, 0.0))

    def running(self) -> list[Run]:
        """The runs in progress, those of workers that died unnoticed among them."""
        found = cast(list[bytes], self.redis.hvals(redis_keys.RUNNING))
        return [Run(**json.loads(run)) for run in found]

    def throughput(self) -> float | None:
        """Seconds of audio that one worker scores in a second, smoothed; None before the first track."""
        raw = self.redis.get(redis_keys.THROUGHPUT)
        return float(raw) if raw else None

    def record_throughput(self, audio_s_per_s: float) -> None:
        """Count in how fast one worker scored a track."""
        before = self.throughput()
        smoothed = audio_s_per_s if before is None else before + THROUGHPUT_SMOOTHING * (audio_s_per_s - before)
        self.redis.set(redis_keys.THROUGHPUT, smoothed)


def _queue_position(rank: Sequence[float] | None, first: Sequence[tuple[bytes, float]]) -> QueuePosition | None:
    if rank is None or not first:
        return None
    position, total_before_s = rank
    ahead_s = float(total_before_s) - first[0][1]
    return QueuePosition(position=int(position) + 1, audio_seconds_ahead=max(ahead_s, 0.0))
