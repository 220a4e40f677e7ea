"""Activity: how the jobs of all tenants ended lately, by quarter of an hour. Test jobs are in none.

Written by the Lua step that ends a job (`count_activity` of `app/core/jobs/lua/shared/common.lua`), so that each job
counts once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from redis import Redis

from app.core import stored
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys

#: Seconds in an interval, as the step that counts has it.
INTERVAL_S = 15 * 60
#: Hours that can be read; a little more is kept.
MAX_HOURS = 48
#: What stands before a code in the name of its measure.
_CODE_PREFIX = "failed:"


@dataclass(frozen=True)
class Activity:
    """Jobs that ended in one interval, from `start_s` on (since 1970): by their state, and failed ones by their code.

    `audio_ms` is of what the model scored. The waits are those of jobs that had begun to run: from creation to the
    beginning of the last run.
    """

    start_s: int
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    audio_ms: int = 0
    waits: int = 0
    wait_ms: int = 0
    longest_wait_ms: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)


MEASURES = ("succeeded", "failed", "canceled", "audio_ms", "waits", "wait_ms", "longest_wait_ms")


class ActivityStore:
    """Reads activity. Blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.redis = redis
        self.keys = keys

    def latest(self, *, hours: int) -> list[Activity]:
        """Every interval of the last hours, 1 to MAX_HOURS, oldest first; the last one is not over."""
        current = int(redis_now_s(self.redis)) // INTERVAL_S
        n_intervals = min(max(hours, 1), MAX_HOURS) * 3600 // INTERVAL_S
        intervals = range(current - n_intervals + 1, current + 1)
        keys = [self.keys.activity(str(interval)) for interval in intervals]
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            found = stored.read_all(pipe, keys)
        return [_activity(*each) for each in zip(intervals, keys, found, strict=True)]


def _activity(interval: int, key: str, raw: Mapping[bytes, bytes] | None) -> Activity:
    counts = {text(name): int(stored.number(key, value) or 0) for name, value in (raw or {}).items()}
    failures = {name.removeprefix(_CODE_PREFIX): n for name, n in counts.items() if name.startswith(_CODE_PREFIX)}
    measures = {name: counts.get(name, 0) for name in MEASURES}
    return Activity(interval * INTERVAL_S, failures=failures, **measures)
