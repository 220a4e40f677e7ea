"""Values that may be a moment old, so that a burst of requests asks for them once."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")

#: For estimates, and for checks that are made again, atomically, where they count.
TTL_S = 0.25


class TtlCache(Generic[T]):
    """Call it for what `read` said a moment ago at most. Threads that find it stale at once may all read."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._read_at = float("-inf")
        self._known: T | None = None

    def __call__(self) -> T:
        """The value; None is never remembered. Blocking when it must be read."""
        known = self._fresh()
        if known is None:
            read_at = time.monotonic()
            known = self._read()
            self._known, self._read_at = known, read_at
        return known

    async def get_async(self, limiter: CapacityLimiter | None = None) -> T:
        """The value, without blocking: a thread is taken, under the limiter, only when it must be read."""
        known = self._fresh()
        return await to_thread.run_sync(self, limiter=limiter) if known is None else known

    def _fresh(self) -> T | None:
        return self._known if time.monotonic() - self._read_at <= TTL_S else None
