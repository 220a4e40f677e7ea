"""An event of a webhook: what it tells, to whom, and what came of telling it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.core.redis.client import text
from app.core.stored import EpochSeconds, field_names, number, record_of, value_of

#: How a job ends.
JOB_EVENTS = ("job.succeeded", "job.failed", "job.canceled")
BATCH_EVENT = "batch.completed"
TEST_EVENT = "webhook.test"

ATTEMPT = "attempt:"


class DeliveryStatus(StrEnum):
    """What came of an event: it waits for an attempt, or it was delivered, given up, or not wanted any more (410)."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Attempt:
    """One attempt to deliver an event.

    `status_code` is the receiver's, None where it gave none; `error` then says why. `response` is how its answer began.
    """

    at: EpochSeconds
    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    response: str = ""


@dataclass(frozen=True)
class Event:
    """An event that is to be told, or was. `subject` is the id of the job or batch that it is about, '' for a test.

    `receiver` is the host and whose URL it is; `tries` counts the attempts since the event was first, or again, asked
    to be sent; `claim` counts how often it was given to a dispatcher.
    """

    id: str
    type: str
    subject: str
    tenant: str
    url: str
    receiver: str
    created_at: EpochSeconds
    status: DeliveryStatus = DeliveryStatus.PENDING
    next_attempt_at: EpochSeconds | None = None
    tries: int = 0
    claim: int = 0
    request_id: str | None = None

    @classmethod
    def from_fields(cls, stored: Mapping[bytes, bytes]) -> "Event":
        """The event of a hash. Raises `Unreadable`."""
        return record_of(cls, "a webhook's event", stored, FIELDS)


FIELDS = field_names(Event)


def event_id(subject: str) -> str:
    """The id of the event about a job or a batch, as `outbox.lua` makes it: there is one of each."""
    return f"evt_{subject}"


def attempts_of(stored: Mapping[bytes, bytes]) -> list[Attempt]:
    """The attempts of a hash that are kept, oldest first, without those that cannot be read."""
    names = (name for name in stored if text(name).startswith(ATTEMPT))
    ordered = sorted(names, key=lambda name: number("attempt", text(name).removeprefix(ATTEMPT)) or 0.0)
    found = (value_of(Attempt, text(name), stored[name]) for name in ordered)
    return [attempt for attempt in found if attempt]
