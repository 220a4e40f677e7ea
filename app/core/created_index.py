"""Sorted sets of ids by the time at which what they name was made, as lists are read from."""

from collections.abc import Iterator
from typing import cast

from redis import Redis

from app.core import stored
from app.core.redis.client import text

#: Ids that are read in one round trip.
PAGE_SIZE = 200

#: When something was made, and its id. Lists go from the greatest down.
Position = tuple[float, str]


class CreatedIndex:
    """One such set. Ids of what has expired may be among them, until `forget`. Every method is blocking."""

    def __init__(self, redis: Redis, key: str) -> None:
        self.redis = redis
        self.key = key

    def newest_first(self, *, newest: float = float("inf"), oldest: float = 0.0) -> Iterator[Position]:
        """What was made between two times, read a page at a time. Of equal times the greater id comes first."""
        start = 0
        while found := self._page(newest, oldest, start):
            for each_id, created_at in found:
                yield created_at, text(each_id)
            # A page begins at the time where the one before ended, so what comes or goes meanwhile shifts no page.
            last = found[-1][1]
            start = (start if last == newest else 0) + sum(created_at == last for _, created_at in found)
            newest = last

    def oldest(self, n: int) -> list[str]:
        """The ids of what was made first."""
        return [
            text(each_id) for each_id in cast(list[bytes], stored.read(self.redis.zrange, self.key, 0, n - 1) or [])
        ]

    def forget(self, *ids: str) -> None:
        """Drop ids of what has expired."""
        if ids:
            self.redis.zrem(self.key, *ids)

    def _page(self, newest: float, oldest: float, start: int) -> list[tuple[bytes, float]]:
        found = stored.read(
            self.redis.zrange,
            *(self.key, newest, oldest),
            desc=True,
            byscore=True,
            offset=start,
            num=PAGE_SIZE,
            withscores=True,
        )
        return cast(list[tuple[bytes, float]], found or [])
