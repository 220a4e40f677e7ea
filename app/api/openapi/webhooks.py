"""The webhooks that the service sends, for the document. The operations are the receivers': nobody calls these here."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header

from app.api.schemas.webhook import (
    BatchCompletedEvent,
    JobCanceledEvent,
    JobFailedEvent,
    JobSucceededEvent,
    SignatureHeaders,
    WebhookTestEvent,
)
from app.core.json_types import Json

Signature = Annotated[SignatureHeaders, Header()]
Receiver = Callable[..., None]

#: What a receiver may answer, beside any status of 2xx.
ANSWERS: dict[int | str, Json] = {
    410: {"description": "The event is not wanted: it is not sent again."},
    "default": {"description": "Anything else, or nothing within 15 s: the event is sent again later."},
}

router = APIRouter(tags=["webhooks"], generate_unique_id_function=lambda route: route.name)


def sent(event_type: str) -> Callable[[Receiver], Receiver]:
    """Document a webhook."""
    return router.post(
        event_type, status_code=204, response_description="It was received; any 2xx says so.", responses=ANSWERS
    )


@sent("job.succeeded")
def on_job_succeeded(event: JobSucceededEvent, signature: Signature) -> None:
    """Sent to the `webhook_url` of a job that got its scores."""


@sent("job.failed")
def on_job_failed(event: JobFailedEvent, signature: Signature) -> None:
    """Sent to the `webhook_url` of a job that came to no scores."""


@sent("job.canceled")
def on_job_canceled(event: JobCanceledEvent, signature: Signature) -> None:
    """Sent to the `webhook_url` of a job that was canceled."""


@sent("batch.completed")
def on_batch_completed(event: BatchCompletedEvent, signature: Signature) -> None:
    """Sent once to the `webhook_url` of a batch, when all that came with the request is final."""


@sent("webhook.test")
def on_webhook_test(event: WebhookTestEvent, signature: Signature) -> None:
    """Sent once, to the URL that `POST /webhooks/test` was given."""


def install(app: FastAPI) -> None:
    """Have the document describe the webhooks."""
    app.webhooks.include_router(router)
