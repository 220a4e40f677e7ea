"""One attempt to deliver an event: call its receiver, read how the answer begins, decide what follows."""

import asyncio
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import httpx
from anyio import to_thread

from app.core.egress_rules import EgressForbidden
from app.core.stored import Unreadable, set_aside
from app.core.webhooks.models import TEST_EVENT, Attempt, DeliveryStatus, Event
from app.core.webhooks.outbox import Outbox
from app.core.webhooks.secrets import WebhookSecrets
from app.egress.messages import Messages, signed_headers
from app.egress.retry_after import retry_after_s

log = logging.getLogger(__name__)

TIMEOUT_S = 15.0
#: How much of an answer is read, and kept.
RESPONSE_BYTES = 1024
#: Seconds before each attempt, from the one before: some 31 hours in all.
SCHEDULE_S = (0.0, 5.0, 5 * 60.0, 30 * 60.0, 2 * 3600.0, 5 * 3600.0, 10 * 3600.0, 14 * 3600.0)
JITTER = 0.2

FAILURES: Sequence[tuple[type[Exception], str]] = (
    (EgressForbidden, "forbidden"),
    (TimeoutError, "timeout"),
    (httpx.TimeoutException, "timeout"),
    (httpx.HTTPError, "unreachable"),
    (httpx.InvalidURL, "forbidden"),
)
#: What is shown as the answer that a test job has asked for.
ASKED_FOR = "The test job's external_id asked for this answer; the receiver was not called."
#: Errors after which the receiver counts as down.
DOWN = ("timeout", "unreachable")
#: A proxy's answers for a server that is away. Another error is about one event, or one of the receiver's paths.
DOWN_STATUSES = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


@dataclass(frozen=True)
class CallResult:
    """What came of a call: a status, or an error in its place."""

    status_code: int | None = None
    error: str | None = None
    response: str = ""
    retry_after_s: float | None = None

    @property
    def is_delivered(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def is_down(self) -> bool | None:
        """Whether the receiver is out of order; None where it was not called."""
        if self.status_code is not None:
            return self.status_code in DOWN_STATUSES
        return True if self.error in DOWN else None


@dataclass(frozen=True)
class Sender:
    """Makes attempts. What it raises leaves the event to be claimed again when its lease is over."""

    client: httpx.AsyncClient
    outbox: Outbox
    messages: Messages
    secrets: WebhookSecrets
    schedule_s: Sequence[float] = SCHEDULE_S

    async def deliver(self, event: Event, now: float) -> None:
        """Make one attempt at `now` by Redis's clock, and note what came of it."""
        begun = time.monotonic()
        answer = await self._attempt(event, now)
        duration_ms = round(1000 * (time.monotonic() - begun))
        attempt = Attempt(now, duration_ms, answer.status_code, answer.error, answer.response)
        status, delay_s = self._next_status(event, answer)
        await to_thread.run_sync(
            lambda: self.outbox.settle(event, attempt, status, is_down=answer.is_down, delay_s=delay_s)
        )
        # Neither the URL nor what was answered: either may hold a secret.
        said = {
            "event_id": event.id,
            "status_code": answer.status_code,
            "error": answer.error,
            "tries": event.tries + 1,
        }
        log.info("webhook %s", status, extra=said | {"duration_ms": duration_ms})

    async def _attempt(self, event: Event, now: float) -> CallResult:
        try:
            message, keys = await to_thread.run_sync(
                lambda: (self.messages.message(event), self.secrets.valid(event.tenant))
            )
        except Unreadable as error:  # by this version: one that can may be running by the next attempt
            set_aside(event.id, str(error))
            return CallResult(error="unreadable")
        if message is None:
            return CallResult(error="expired")
        if message.test_status and not event.tries:
            return CallResult(message.test_status, response=ASKED_FOR)
        if not keys:
            return CallResult(error="no_secret")
        return await call(self.client, event.url, message.body, signed_headers(event.id, message.body, keys, now))

    def _next_status(self, event: Event, answer: CallResult) -> tuple[DeliveryStatus, float | None]:
        """What the event is from here on, and in how many seconds it is tried again."""
        if answer.is_delivered:
            return DeliveryStatus.DELIVERED, None
        if answer.status_code == HTTPStatus.GONE:
            return DeliveryStatus.STOPPED, None
        tries = event.tries + 1
        if event.type == TEST_EVENT or answer.error == "expired" or tries >= len(self.schedule_s):
            return DeliveryStatus.FAILED, None
        delay_s = self.schedule_s[tries] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        return DeliveryStatus.PENDING, max(delay_s, answer.retry_after_s or 0.0)


async def call(client: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str]) -> CallResult:
    """Send a body, and read the beginning of the answer."""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            beginning = await _beginning(response)
            return CallResult(response.status_code, None, beginning, retry_after_s(response.headers.get("retry-after")))
    except Exception as error:
        for kind, name in FAILURES:
            if isinstance(error, kind):
                return CallResult(error=name)
        # An attempt like any other: one that is not noted would be made again and again.
        log.warning("an answer of a receiver could not be read: %s", type(error).__name__)
        return CallResult(error="unreachable")


async def _beginning(response: httpx.Response) -> str:
    """The first bytes of a body as they came: what is compressed is not unpacked."""
    read = b""
    async for chunk in response.aiter_raw(RESPONSE_BYTES):
        read += chunk
        if len(read) >= RESPONSE_BYTES:
            break
    return read[:RESPONSE_BYTES].decode(errors="replace")
