"""An event and its attempts, as the owner of its URL reads them."""

from collections.abc import Sequence
from dataclasses import asdict

from app.api.schemas.fields import timestamp
from app.api.schemas.webhook import Delivery
from app.core.webhooks.models import Attempt, Event


def delivery_view(event: Event, attempts: Sequence[Attempt]) -> Delivery:
    """The delivery of an event."""
    return Delivery.model_validate(
        {
            "id": event.id,
            "type": event.type,
            "url": event.url,
            "status": event.status,
            "created_at": timestamp(event.created_at),
            "next_attempt_at": timestamp(event.next_attempt_at),
            "attempts": [asdict(attempt) | {"at": timestamp(attempt.at)} for attempt in attempts],
        }
    )
