"""Webhooks: what was delivered of a job or a batch, sending it again, and testing a receiver."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from app.api.auth.authentication import ReadJobs, WriteScores
from app.api.batches.views import owned_batch
from app.api.dependencies import Services, ServicesDep
from app.api.json_body import json_body
from app.api.openapi.components import headers, problems, webhook_test_operation
from app.api.routes.batches import BatchId
from app.api.routes.jobs import ACCESS_PROBLEMS, JOB_PROBLEMS, LIMITS, JobId
from app.api.schemas.fields import known_form
from app.api.schemas.webhook import Delivery, DeliveryList, WebhookTest
from app.api.webhooks.views import delivery_view
from app.core.callers import Caller
from app.core.json_types import Json
from app.core.logging import REQUEST_ID
from app.core.problems import Problem
from app.core.webhooks.models import TEST_EVENT, event_id

DeliveryId = Annotated[
    str, known_form("delivery"), Path(alias="delivery_id", description="The `id` of a delivery, its `webhook-id`.")
]
WebhookTestBody = Annotated[WebhookTest, Depends(json_body(WebhookTest))]

LISTED: dict[int | str, Json] = {200: {"headers": headers("Cache-Control", *LIMITS)}}
REDELIVERED: dict[int | str, Json] = {202: {"headers": headers(*LIMITS)}}
BATCH_PROBLEMS = (*ACCESS_PROBLEMS, "not_found")
TEST_PROBLEMS = (
    *ACCESS_PROBLEMS,
    "bad_header",
    "upload_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "validation_error",
    "webhook_forbidden",
    "webhook_secret_missing",
)

router = APIRouter(tags=["webhooks"])


@router.get(
    "/jobs/{id}/deliveries",
    response_description="What was sent to the job's `webhook_url`, or is to be.",
    responses={**LISTED, **problems(*JOB_PROBLEMS)},
)
def list_job_deliveries(job_id: JobId, response: Response, services: ServicesDep, caller: ReadJobs) -> DeliveryList:
    """Read what came of telling a job's end: each attempt, and when the next one is due."""
    return deliveries(services, caller, services.job_service.get(caller, job_id).id, response)


@router.post(
    "/jobs/{id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_description="The delivery, which is pending again.",
    responses={**REDELIVERED, **problems(*JOB_PROBLEMS)},
)
def redeliver_job_event(job_id: JobId, delivery_id: DeliveryId, services: ServicesDep, caller: WriteScores) -> Delivery:
    """Tell a job's end again, with the same `webhook-id` and all attempts anew, whatever came of it before."""
    return redelivered(services, caller, services.job_service.get(caller, job_id).id, delivery_id)


@router.get(
    "/batches/{id}/deliveries",
    response_description="What was sent to the batch's `webhook_url`, or is to be.",
    responses={**LISTED, **problems(*BATCH_PROBLEMS)},
)
def list_batch_deliveries(
    batch_id: BatchId, response: Response, services: ServicesDep, caller: ReadJobs
) -> DeliveryList:
    """Read what came of telling that a batch is complete."""
    return deliveries(services, caller, owned_batch(services, caller, batch_id).id, response)


@router.post(
    "/batches/{id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_description="The delivery, which is pending again.",
    responses={**REDELIVERED, **problems(*BATCH_PROBLEMS)},
)
def redeliver_batch_event(
    batch_id: BatchId, delivery_id: DeliveryId, services: ServicesDep, caller: WriteScores
) -> Delivery:
    """Tell again that a batch is complete, with the same `webhook-id`."""
    return redelivered(services, caller, owned_batch(services, caller, batch_id).id, delivery_id)


@router.post(
    "/webhooks/test",
    status_code=202,
    openapi_extra=webhook_test_operation(),
    response_description="The delivery. It has one attempt, whose outcome `Location` shows.",
    responses={202: {"headers": headers("Location", *LIMITS)}, **problems(*TEST_PROBLEMS)},
)
def test_webhook(caller: WriteScores, body: WebhookTestBody, response: Response, services: ServicesDep) -> Delivery:
    """Send a signed event of the type `webhook.test` to a URL, once."""
    services.webhook_targets.check(body.url, caller.tenant)
    made = event_id(f"test_{uuid.uuid4().hex}")
    services.outbox.post(id=made, type=TEST_EVENT, tenant=caller.tenant, url=body.url, request_id=REQUEST_ID.get())
    response.headers["Location"] = f"{services.settings.root_path}/webhooks/test/{made}"
    return found(services, caller, made)


@router.get(
    "/webhooks/test/{delivery_id}",
    response_description="The delivery.",
    responses={**LISTED, **problems(*ACCESS_PROBLEMS, "not_found")},
)
def get_webhook_test(delivery_id: DeliveryId, response: Response, services: ServicesDep, caller: ReadJobs) -> Delivery:
    """Read what came of a test."""
    response.headers["Cache-Control"] = "no-store"
    return found(services, caller, delivery_id)


def deliveries(services: Services, caller: Caller, subject: str, response: Response) -> DeliveryList:
    """What there is to tell of a job or a batch: one event, if its owner wants to be told. Blocking."""
    response.headers["Cache-Control"] = "no-store"
    event = services.outbox.get(event_id(subject), tenant=caller.tenant)
    return DeliveryList(items=[delivery_view(*event)] if event else [])


def redelivered(services: Services, caller: Caller, subject: str, delivery_id: str) -> Delivery:
    """A delivery that is begun again. Raises `not_found` unless it is of this job or batch. Blocking."""
    if delivery_id != event_id(subject) or not services.outbox.redeliver(delivery_id):
        raise missing()
    return found(services, caller, delivery_id)


def found(services: Services, caller: Caller, delivery_id: str) -> Delivery:
    event = services.outbox.get(delivery_id, tenant=caller.tenant)
    if event is None:
        raise missing()
    return delivery_view(*event)


def missing() -> Problem:
    return Problem("not_found", "There is no such delivery.")
