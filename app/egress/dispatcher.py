"""The dispatcher: takes events that are due from the outbox and has them sent, many at a time. Several may run."""

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from anyio import to_thread
from redis.exceptions import RedisError

from app.core.redis.failure import explained
from app.core.redis.replicas import NotReplicated
from app.core.webhooks.models import Event
from app.core.webhooks.outbox import LEASE_S, Claimed, Outbox

log = logging.getLogger(__name__)

#: Events that one dispatcher has at a time.
CAPACITY = 64
#: How long an event that is due waits for a dispatcher that has nothing to do.
POLL_S = 0.25
#: How long Redis is left alone after it failed.
PAUSE_S = 1.0


class Deliver(Protocol):
    """What makes an attempt."""

    async def deliver(self, event: Event, now: float) -> None:
        """Make one attempt, and note what came of it."""


class Dispatcher:
    """`run()` sends events until it is told to stop, and then ends those that it has begun."""

    def __init__(
        self,
        outbox: Outbox,
        sender: Deliver,
        *,
        name: str,
        capacity: int = CAPACITY,
        poll_s: float = POLL_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self.outbox = outbox
        self.sender = sender
        self.name = name
        self.capacity = capacity
        self.poll_s = poll_s
        self.lease_s = lease_s
        self._sending: set[asyncio.Task[None]] = set()
        self._is_away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Take events and send them."""
        while not stop.is_set():
            if not await self._begin():
                await self._pause(stop)
        if self._sending:
            await asyncio.wait(self._sending)

    async def _pause(self, stop: asyncio.Event) -> None:
        """Wait until there may be something to begin: with the end of an attempt its receiver may be sent the next."""
        if self._is_away or not self._sending:
            await _wait(stop, PAUSE_S if self._is_away else self.poll_s)
        else:
            await asyncio.wait(self._sending, timeout=self.poll_s, return_when=asyncio.FIRST_COMPLETED)

    async def _begin(self) -> int:
        """Begin to send what is due, as far as there is room; how much that was."""
        claimed = await self._claim(self.capacity - len(self._sending))
        for event in claimed.events:
            task = asyncio.create_task(self._deliver(event, claimed.now))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(claimed.events)

    async def _claim(self, limit: int) -> Claimed:
        try:
            claimed = await to_thread.run_sync(lambda: self.outbox.claim(self.name, limit=limit, lease_s=self.lease_s))
        except (RedisError, NotReplicated) as error:
            if not self._is_away:
                log.warning("webhooks wait for Redis: %s", _reason(error))
            self._is_away = True
            return Claimed(0.0, [])
        if self._is_away:
            log.info("webhooks are sent again")
        self._is_away = False
        return claimed

    async def _deliver(self, event: Event, now: float) -> None:
        try:
            await self.sender.deliver(event, now)
        except Exception as error:
            # Not the text of the error, which may show a URL. The event is due again when its lease is over.
            log.warning("an attempt was not noted: %s", type(error).__name__, extra={"event_id": event.id})


def _reason(error: Exception) -> str:
    return explained(error) if isinstance(error, RedisError) else str(error)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
