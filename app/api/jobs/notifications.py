"""Notifications: wakes the requests of this process that wait for a job when Redis publishes that the job has changed.

One subscription serves every request of the process. It begins with the first listener and lasts until `close`. A
notification says only that the job may have changed: its receiver reads the job again, so one too many does no harm.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError

from app.core.callers import Caller
from app.core.jobs.models import PROGRESS
from app.core.json_types import Json
from app.core.redis.client import text
from app.core.redis.failure import brief
from app.core.redis.keys import PROBE_TTL_S, RedisKeys

log = logging.getLogger(__name__)

#: How long a new listener waits for the subscription before Redis counts as unavailable.
SUBSCRIBE_TIMEOUT_S = 1.5
#: A subscription that was silent for this long is pinged, and closed when it stays silent for as long again.
IDLE_TIMEOUT_S = 15.0
RECONNECT_S = 0.5
#: Stands in a channel's name for the id of a job, where nobody listens.
NO_JOB = "-"


class TooManyListeners(Exception):
    """As many clients wait for jobs in this process as are allowed to."""


class TenantTooManyListeners(TooManyListeners):
    """As many clients of this tenant wait for jobs in this process as are allowed to."""


class Listener:
    """One request that waits for a job. A notification between two waits is kept: the next wait returns at once."""

    def __init__(self) -> None:
        self._updated = asyncio.Event()
        self._ended = asyncio.Event()

    def notify(self, *, ended: bool) -> None:
        self._updated.set()
        if ended:
            self._ended.set()

    async def wait_update(self, timeout_s: float) -> bool:
        """Wait until the job may have changed, at most for `timeout_s`; False after that time."""
        return await _wait_and_clear(self._updated, timeout_s)

    async def wait_end(self, timeout_s: float) -> bool:
        """Wait until the job may have ended, at most for `timeout_s`; False after that time."""
        return await _wait_and_clear(self._ended, timeout_s)


async def _wait_and_clear(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    event.clear()
    return True


class JobNotifications:
    """The listeners of one process, and the connection that notifies them. Belongs to one event loop."""

    def __init__(self, redis: Redis, keys: RedisKeys, *, max_listeners: int, max_per_tenant: int) -> None:
        self.redis = redis
        self.keys = keys
        self.max_listeners = max_listeners
        self.max_per_tenant = max_per_tenant
        self.closed = False
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._by_tenant: Counter[str] = Counter()
        self._count = 0
        self._subscribed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listen(self, job_id: str, caller: Caller) -> AsyncIterator[Listener]:
        """A listener to one job, subscribed before the block begins: every change from then on notifies it.

        Raises `TooManyListeners`, `TenantTooManyListeners`, and `ConnectionError` while Redis is unavailable. All
        callers without a key are one tenant, which has no share: on a service without keys there is no other.
        """
        listener, channel = Listener(), self.keys.updates_channel(job_id)
        with self._counted(caller):
            self._listeners[channel].add(listener)
            try:
                await self._subscription()
                yield listener
            finally:
                self._unsubscribe(channel, listener)

    @contextmanager
    def _counted(self, caller: Caller) -> Iterator[None]:
        if caller.key_id is not None and self._by_tenant[caller.tenant] >= self.max_per_tenant:
            raise TenantTooManyListeners
        if self._count >= self.max_listeners:
            raise TooManyListeners
        self._count += 1
        self._by_tenant[caller.tenant] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._by_tenant -= Counter((caller.tenant,))

    def stop(self) -> None:
        """Notify all listeners for the last time, with `closed` set: they end. For a server that has to stop soon."""
        self.closed = True
        self._notify_all()

    async def close(self) -> None:
        """End the subscription and its connection."""
        self.stop()
        if self._reader:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        await self.redis.aclose()

    async def _subscription(self) -> None:
        if self._reader is None:
            # In a context of its own: the first listener's request id is not that of the whole process.
            self._reader = asyncio.create_task(self._read_forever(), name="job notifications", context=Context())
        try:
            await asyncio.wait_for(self._subscribed.wait(), SUBSCRIBE_TIMEOUT_S)
        except TimeoutError:
            raise ConnectionError("no subscription to the changes of jobs") from None

    async def _read_forever(self) -> None:
        while True:
            try:
                async with self.redis.pubsub() as pubsub:
                    await pubsub.psubscribe(self.keys.updates_channel("*"))
                    await self._read(pubsub)
            except Exception as error:  # whatever it was: if this task ended, no listener would be notified any more
                log.warning("subscription to job changes lost: %s", brief(error))
                await self._forget_connections()
            self._subscribed.clear()
            await asyncio.sleep(RECONNECT_S)

    async def _forget_connections(self) -> None:
        """The next subscription asks anew where the master is."""
        with suppress(Exception):
            await self.redis.connection_pool.disconnect()

    async def _read(self, pubsub: PubSub) -> None:
        """Dispatch messages until the connection falls silent."""
        pinged = False
        while True:
            message = await pubsub.get_message(timeout=IDLE_TIMEOUT_S)
            if message is None and pinged:
                raise ConnectionError("the subscription is silent")
            if pinged := message is None:
                await asyncio.wait_for(self._ping(), IDLE_TIMEOUT_S)
            else:
                self._dispatch(message)

    async def _ping(self) -> None:
        """Publish what this subscription must hear. A server that is no master, which would hear nothing, refuses."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.set(self.keys.write_probe, "", ex=PROBE_TTL_S)
            pipe.publish(self.keys.updates_channel(NO_JOB), PROGRESS)
            await pipe.execute()

    def _dispatch(self, message: Json) -> None:
        if message["type"] == "psubscribe":
            self._subscribed.set()
            self._notify_all()  # changes during an outage were missed
        elif message["type"] == "pmessage":
            ended = text(message["data"]) != PROGRESS
            for listener in self._listeners.get(text(message["channel"]), ()):
                listener.notify(ended=ended)

    def _notify_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.notify(ended=True)

    def _unsubscribe(self, channel: str, listener: Listener) -> None:
        self._listeners[channel].discard(listener)
        if not self._listeners[channel]:
            del self._listeners[channel]
