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
from app.api.schemas.webhook import WebhookBody, WebhookTestData
from app.core.jobs.store import JobStore
from app.core.webhooks.models import BATCH_EVENT, TEST_EVENT, Event


@dataclass(frozen=True)
class Messages:
    """Makes the bodies of events. A job that has ended never changes, so a body is made anew for each attempt."""

    jobs: JobStore
    batches: BatchStore
    result_ttl_s: int
    root_path: str = ""

    def body(self, event: Event) -> bytes | None:
        """The body of an event; None where what it is about has expired. Blocking."""
        data = self._data(event)
        if data is None:
            return None
        body = WebhookBody.model_validate({"type": event.type, "timestamp": timestamp(event.created_at), "data": data})
        return body.model_dump_json(by_alias=True).encode()

    def _data(self, event: Event) -> Job | Batch | WebhookTestData | None:
        if event.type == TEST_EVENT:
            return WebhookTestData()
        return self._batch(event) if event.type == BATCH_EVENT else self._job(event)

    def _job(self, event: Event) -> Job | None:
        job = self.jobs.get(event.subject)
        return job_view(job, result_ttl_s=self.result_ttl_s, root_path=self.root_path) if job else None

    def _batch(self, event: Event) -> Batch | None:
        batch = self.batches.get(event.tenant, event.subject)
        return summary_view(batch, self.batches.status(batch), root_path=self.root_path) if batch else None


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
