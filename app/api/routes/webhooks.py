"""Webhooks: what was delivered of a job or a batch, sending it again, and testing a receiver."""

import uuid
from collections.abc import Awaitable, Callable
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


#: The id of the job or batch that a path names; raises `not_found` unless it is the caller's.
Find = Callable[[Caller], str]


async def of_job(job_id: JobId, services: ServicesDep) -> Find:
    return lambda caller: services.job_service.get(caller, job_id).id


async def of_batch(batch_id: BatchId, services: ServicesDep) -> Find:
    return lambda caller: owned_batch(services, caller, batch_id).id


async def named(delivery_id: DeliveryId) -> str:
    """The delivery that a path names: a dependency, so that the document has it after the job's or batch's id."""
    return delivery_id


def add_routes(noun: str, path: str, subject: Callable[..., Awaitable[Find]], *codes: str) -> None:
    """Routes for what is told of jobs, or of batches."""

    @router.get(
        f"{path}/deliveries",
        name=f"list_{noun}_deliveries",
        response_description=f"What was sent to the `webhook_url` of the {noun}, or is to be.",
        responses={**LISTED, **problems(*codes)},
    )
    def list_deliveries(
        caller: ReadJobs, find: Annotated[Find, Depends(subject)], response: Response, services: ServicesDep
    ) -> DeliveryList:
        """Read what came of telling the end: each attempt, and when the next one is due."""
        response.headers["Cache-Control"] = "no-store"
        event = services.outbox.get(event_id(find(caller)), tenant=caller.tenant)
        return DeliveryList(items=[delivery_view(*event)] if event else [])

    @router.post(
        f"{path}/deliveries/{{delivery_id}}/redeliver",
        name=f"redeliver_{noun}_event",
        status_code=202,
        response_description="The delivery, which is pending again.",
        responses={**REDELIVERED, **problems(*codes)},
    )
    def redeliver(
        caller: WriteScores,
        find: Annotated[Find, Depends(subject)],
        delivery_id: Annotated[str, Depends(named)],
        services: ServicesDep,
    ) -> Delivery:
        """Tell the end again, with the same `webhook-id` and all attempts anew, whatever came of it before."""
        if delivery_id != event_id(find(caller)) or not services.outbox.redeliver(delivery_id):
            raise missing()
        return found(services, caller, delivery_id)


add_routes("job", "/jobs/{id}", of_job, *JOB_PROBLEMS)
add_routes("batch", "/batches/{id}", of_batch, *ACCESS_PROBLEMS, "not_found")


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


def found(services: Services, caller: Caller, delivery_id: str) -> Delivery:
    event = services.outbox.get(delivery_id, tenant=caller.tenant)
    if event is None:
        raise missing()
    return delivery_view(*event)


def missing() -> Problem:
    return Problem("not_found", "There is no such delivery.")
