"""What a webhook says, and how it is signed: bodies from records, signatures as Standard Webhooks has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import standardwebhooks

from app.api.batches.store import BatchStore
from app.api.batches.views import summary_view
from app.api.jobs.views import job_view
from app.api.schemas.batch import Batch
from app.api.schemas.fields import timestamp
from app.api.schemas.job import Job
from app.api.schemas.webhook import EVENTS, WebhookTestData
from app.api.test_mode.outcomes import outcome_of
from app.core.jobs.store import JobStore
from app.core.webhooks.models import BATCH_EVENT, TEST_EVENT, Event


@dataclass(frozen=True)
class Message:
    """A body; with `test_status` its first delivery counts as answered so, because a test job asks for it."""

    body: bytes
    test_status: int | None = None


@dataclass(frozen=True)
class Messages:
    """Makes the bodies of events. A job that has ended never changes, so a body is made anew for each attempt."""

    jobs: JobStore
    batches: BatchStore
    result_ttl_s: int
    root_path: str = ""

    def message(self, event: Event) -> Message | None:
        """What is told of an event; None where what it is about has expired. Blocking."""
        if event.type == TEST_EVENT:
            return Message(_body(event, WebhookTestData()))
        return self._of_batch(event) if event.type == BATCH_EVENT else self._of_job(event)

    def _of_job(self, event: Event) -> Message | None:
        job = self.jobs.get(event.subject)
        if job is None:
            return None
        view = job_view(job, result_ttl_s=self.result_ttl_s, root_path=self.root_path)
        return Message(_body(event, view), outcome_of(job).webhook_status)

    def _of_batch(self, event: Event) -> Message | None:
        batch = self.batches.get(event.tenant, event.subject)
        if batch is None:
            return None
        return Message(_body(event, summary_view(batch, self.batches.status(batch), root_path=self.root_path)))


def _body(event: Event, data: Job | Batch | WebhookTestData) -> bytes:
    body = EVENTS[event.type].model_validate(
        {"type": event.type, "timestamp": timestamp(event.created_at), "data": data}
    )
    return body.model_dump_json(by_alias=True).encode()


def signed_headers(event_id: str, body: bytes, keys: Sequence[str], now: float) -> Mapping[str, str]:
    """The headers of Standard Webhooks; one signature for each key, so that a receiver may know either."""
    at, text = datetime.fromtimestamp(int(now), UTC), body.decode()
    signatures = [standardwebhooks.Webhook(key).sign(event_id, at, text) for key in keys]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "accept-encoding": "identity",
    }
