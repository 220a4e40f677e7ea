"""Webhooks: where they go, what they tell, and what came of telling it."""

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.batch import Batch
from app.api.schemas.fields import Timestamp
from app.api.schemas.job import Job
from app.api.schemas.options import WebhookUrl
from app.core.webhooks.models import DeliveryStatus


class WebhookTest(BaseModel):
    """Where a test is to go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: WebhookUrl = Field(description="Gets one signed event of the type `webhook.test`.")


class DeliveryAttempt(BaseModel):
    """One attempt to deliver an event."""

    at: Timestamp
    duration_ms: int
    status_code: int | None = Field(description="What the receiver answered; null when it gave no answer.")
    error: str | None = Field(
        description="Why there was no answer: `unreachable`, `timeout`, `forbidden` by this server's rules, "
        "`no_secret`, `unreadable` when what is stored cannot be shown, or `expired` when the job was gone."
    )
    response: str = Field(description="How the answer's body began, 1 KiB at most.")


class Delivery(BaseModel):
    """An event and what came of telling it to its receiver."""

    id: str = Field(
        description="The event's `webhook-id`, the same in every attempt.",
        examples=["evt_job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a"],
    )
    object: Literal["delivery"] = "delivery"
    type: str = Field(examples=["job.succeeded"])
    url: str = Field(description="As it was sent.")
    status: DeliveryStatus = Field(
        description="`pending` while there are attempts to come, `delivered` after an answer of 2xx, `failed` after "
        "the last attempt, `stopped` after an answer of 410."
    )
    created_at: Timestamp
    next_attempt_at: Timestamp | None = Field(
        description="Null unless it is pending. Not before this time: while its host does not answer, all events to it "
        "wait. A time that is over means that the event is being sent, or waits behind others to its host."
    )
    attempts: list[DeliveryAttempt] = Field(description="The last 20, oldest first.")


class DeliveryList(BaseModel):
    """What was sent about a job or a batch, or is to be."""

    items: list[Delivery]


class WebhookTestData(BaseModel):
    """What a test tells."""

    message: str = "This is a test of your receiver."


Type = TypeVar("Type")
Data = TypeVar("Data")


class WebhookEvent(BaseModel, Generic[Type, Data]):
    """The body of a webhook: what happened, when, and to what."""

    type: Type
    timestamp: Timestamp
    data: Data


class JobSucceededEvent(WebhookEvent[Literal["job.succeeded"], Job]):
    """A job has its scores: `data` is the job as `GET /jobs/{id}` gives it."""


class JobFailedEvent(WebhookEvent[Literal["job.failed"], Job]):
    """A job came to no scores: `data` is the job as `GET /jobs/{id}` gives it, with its `error`."""


class JobCanceledEvent(WebhookEvent[Literal["job.canceled"], Job]):
    """A job was canceled: `data` is the job as `GET /jobs/{id}` gives it."""


class BatchCompletedEvent(WebhookEvent[Literal["batch.completed"], Batch]):
    """All that came with a batch is final: `data` is the batch as `GET /batches/{id}` gives it, without items."""


class WebhookTestEvent(WebhookEvent[Literal["webhook.test"], WebhookTestData]):
    """What `POST /webhooks/test` asked for."""


#: By their type.
EVENTS: Mapping[str, type[WebhookEvent[Any, Any]]] = {
    "job.succeeded": JobSucceededEvent,
    "job.failed": JobFailedEvent,
    "job.canceled": JobCanceledEvent,
    "batch.completed": BatchCompletedEvent,
    "webhook.test": WebhookTestEvent,
}


class SignatureHeaders(BaseModel):
    """The headers of Standard Webhooks."""

    webhook_id: str = Field(
        description="Names the event: the same each time it comes, and it may come more than once.",
        examples=["evt_job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a"],
    )
    webhook_timestamp: str = Field(
        description="When this attempt was made, in seconds since 1970. Refuse what is older than five minutes.",
        examples=["1795360093"],
    )
    webhook_signature: str = Field(
        description="`v1,` and, in base64, the HMAC-SHA256 of `{webhook-id}.{webhook-timestamp}.{body}` under the "
        "bytes of the secret after `whsec_`, which are base64, too. Two of them with a space between while a secret is "
        "replaced: one that matches is enough.",
        examples=["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="],
    )
