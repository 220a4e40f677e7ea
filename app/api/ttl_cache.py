"""A cache of one value for a fraction of a second, so that a burst of requests reads it once."""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")

#: Short, because the values are estimates and limits that change with every job.
TTL_S = 0.25


class TtlCache(Generic[T]):
    """Call it for what `read` returned at most TTL_S ago, be it None. What `read` raises is not kept.

    Threads that find it stale at the same time may all read; of coroutines one does, and the others wait for it.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._read_at = float("-inf")
        self._value: T | None = None
        self._reading: asyncio.Task[T] | None = None

    def __call__(self) -> T:
        """The value. Blocking when it must be read."""
        if self._is_fresh():
            return self._value  # type: ignore[return-value]  # it has been read: None is a T then
        read_at = time.monotonic()
        value = self._read()
        self._value, self._read_at = value, read_at
        return value

    async def get_async(self, limiter: CapacityLimiter | None = None) -> T:
        """The same without blocking. Uses one thread, under the limiter, and only when the value must be read."""
        if self._is_fresh():
            return self._value  # type: ignore[return-value]
        if self._reading is None or self._reading.done():
            # In no request's context: it is read for all who wait.
            self._reading = asyncio.create_task(to_thread.run_sync(self, limiter=limiter), context=Context())
            self._reading.add_done_callback(_retrieve)
        return await asyncio.shield(self._reading)

    @property
    def last(self) -> T | None:
        """What was read last, however long ago; None before that."""
        return self._value

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._read_at <= TTL_S


def _retrieve(reading: asyncio.Task[T]) -> None:
    """Take an error that everybody who waited for it has left without, so that asyncio does not log it."""
    if not reading.cancelled():
        reading.exception()
