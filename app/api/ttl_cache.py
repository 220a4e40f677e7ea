"""A cache of one value for a fraction of a second, so that a burst of requests reads it once."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")

#: Short, because the values are estimates and limits that change with every job.
TTL_S = 0.25


class TtlCache(Generic[T]):
    """Call it for what `read` returned at most TTL_S ago. Threads that find it stale at the same time may all read."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._read_at = float("-inf")
        self._value: T | None = None

    def __call__(self) -> T:
        """The value; None is never cached. Blocking when it must be read."""
        value = self._fresh()
        if value is None:
            read_at = time.monotonic()
            value = self._read()
            self._value, self._read_at = value, read_at
        return value

    async def get_async(self, limiter: CapacityLimiter | None = None) -> T:
        """The same without blocking. Uses a thread, under the limiter, only when the value must be read."""
        value = self._fresh()
        return await to_thread.run_sync(self, limiter=limiter) if value is None else value

    @property
    def last(self) -> T | None:
        """What was read last, however long ago; None before that."""
        return self._value

    def _fresh(self) -> T | None:
        return self._value if time.monotonic() - self._read_at <= TTL_S else None
