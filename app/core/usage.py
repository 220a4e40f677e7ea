"""Usage: what tenants and their API keys have used, by day in UTC.

Written by the Lua step that ends a job (`count_usage` of `app/core/jobs/lua/shared/common.lua`), so that each job
counts once.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Self

from redis import Redis

from app.core import stored
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys

#: Days that are kept, as the step that counts has it.
MAX_DAYS = 400
_DAY_S = 24 * 60 * 60
_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True)
class Counts:
    """Jobs that have ended, and in which state; milliseconds of audio that were scored; bytes of the uploaded files.

    A job whose scores were known already adds no audio, one that was deleted before its end counts as canceled.
    """

    jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    audio_ms: int = 0
    bytes: int = 0

    @classmethod
    def total(cls, several: Collection[Self]) -> Self:
        return cls(**{name: sum(getattr(each, name) for each in several) for name in MEASURES})


MEASURES = [measure.name for measure in fields(Counts)]


@dataclass(frozen=True)
class DailyUsage:
    """What one tenant used on one day: by the id of each key, None for jobs that were made without one."""

    day: date
    tenant: str
    by_key: Mapping[str | None, Counts]


class UsageStore:
    """Reads usage. Every method is blocking; the newest day comes first, and a day without an end is left out."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.redis = redis
        self.keys = keys

    def of_tenant(self, tenant: str, *, days: int) -> list[DailyUsage]:
        """What a tenant used today and on the days before, in one round trip but for the clock."""
        return self._read([(day, tenant) for day in self._days(days)])

    def of_all(self, *, days: int) -> list[DailyUsage]:
        """What all tenants used, test data as of tenants of its own; the tenants of a day by their names."""
        found = [(day, self.redis.smembers(self.keys.usage_tenants(_number(day)))) for day in self._days(days)]
        return self._read([(day, tenant) for day, tenants in found for tenant in sorted(map(text, tenants))])

    def _days(self, n: int) -> list[date]:
        today = datetime.fromtimestamp(redis_now_s(self.redis), UTC).date()
        return [today - timedelta(days=ago) for ago in range(min(max(n, 1), MAX_DAYS))]

    def _read(self, wanted: Iterable[tuple[date, str]]) -> list[DailyUsage]:
        wanted = list(wanted)
        keys = [self.keys.usage(_number(day), tenant) for day, tenant in wanted]
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            found = stored.read_all(pipe, keys)
        pairs = zip(wanted, keys, found, strict=True)
        return [DailyUsage(day, tenant, _by_key(key, raw)) for (day, tenant), key, raw in pairs if raw]


def _number(day: date) -> str:
    return str((day - _FIRST_DAY).days)


def _by_key(key: str, raw: Mapping[bytes, bytes]) -> dict[str | None, Counts]:
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value in raw.items():
        key_id, _, measure = text(name).rpartition(":")
        if measure in MEASURES:
            counts[key_id][measure] = int(stored.number(key, value) or 0)
    return {key_id or None: Counts(**measures) for key_id, measures in sorted(counts.items())}
