"""A cache of one value for a moment, so that a burst of requests reads it once."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from threading import Lock
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")

#: Short, because most values are estimates and limits that change with every job.
TTL_S = 0.25


class TtlCache(Generic[T]):
    """Call it for what `read` returned at most `ttl_s` ago, be it None; without `ttl_s`, TTL_S. Errors are not kept.

    Of threads and coroutines that find it stale at the same time one reads; the others wait for what comes of it.
    """

    def __init__(self, read: Callable[[], T], *, ttl_s: float | None = None) -> None:
        self.ttl_s = TTL_S if ttl_s is None else ttl_s
        self._read = read
        self._read_at = float("-inf")
        self._value: T | None = None
        self._lock = Lock()
        self._reading: Future[T] | None = None
        self._task: asyncio.Task[T] | None = None

    def __call__(self) -> T:
        """The value. Blocking when it must be read."""
        if self._is_fresh():
            return self._value  # type: ignore[return-value]  # it has been read: None is a T then
        with self._lock:
            reading, is_first = self._reading or Future(), self._reading is None
            self._reading = reading
        if is_first:
            self._read_for_all(reading)
        return reading.result()

    async def get_async(self, limiter: CapacityLimiter | None = None) -> T:
        """The same without blocking. Uses one thread, under the limiter, and only when the value must be read."""
        if self._is_fresh():
            return self._value  # type: ignore[return-value]
        if self._task is None or self._task.done():
            # In no request's context: it is read for all who wait.
            self._task = asyncio.create_task(to_thread.run_sync(self, limiter=limiter), context=Context())
            self._task.add_done_callback(_retrieve)
        return await asyncio.shield(self._task)

    @property
    def last(self) -> T | None:
        """What was read last, however long ago; None before that."""
        return self._value

    def _read_for_all(self, reading: Future[T]) -> None:
        read_at = time.monotonic()
        try:
            value = self._read()
        except BaseException as error:
            self._reading = None
            reading.set_exception(error)
        else:
            self._value, self._read_at, self._reading = value, read_at, None
            reading.set_result(value)

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._read_at <= self.ttl_s


def _retrieve(task: asyncio.Task[T]) -> None:
    """Take an error that everybody who waited for it has left without, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
