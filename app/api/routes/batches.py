"""`/batches`: send several tracks in one request, and follow their jobs together."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.api.auth.authentication import ReadJobs, WriteScores
from app.api.batches.views import batch_headers, batch_view, owned_batch
from app.api.dependencies import ServicesDep
from app.api.openapi.components import batch_operation, headers, problems
from app.api.routes.score import FORM_PROBLEMS, SUBMISSION_PROBLEMS, SUBMITTED
from app.api.schemas.batch import Batch, BatchQuery
from app.api.schemas.fields import known_form
from app.api.submissions.batch import submit_batch
from app.api.submissions.headers import SubmissionHeadersDep
from app.api.submissions.submission import Submission

BatchId = Annotated[str, known_form("batch"), Path(alias="id", description="The `id` that `POST /batches` gave.")]

router = APIRouter(tags=["scoring"])


@router.post(
    "/batches",
    status_code=207,
    response_model=Batch,
    response_description="What became of each file, in the order in which they were sent.",
    openapi_extra=batch_operation(),
    responses={
        207: {"headers": headers("Location", "Retry-After", "Cache-Control", "Preference-Applied", *SUBMITTED)},
        **problems(*FORM_PROBLEMS, *SUBMISSION_PROBLEMS, "storage_unavailable", "storage_full"),
    },
)
async def create_batch(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Send several tracks at once, up to 20, each in a part named `files`.

    Each file has an outcome of its own: a job, or a problem such as 413 or 415. Nothing is accepted before the whole
    form has arrived, so a client that is cut off has made no job. For more tracks send each to `POST /score` with the
    `batch_id` that this gave.
    """
    return await submit_batch(Submission(request, services, caller, headers))


@router.get(
    "/batches/{id}",
    response_description="The batch as it stands.",
    responses={
        200: {"headers": headers("Retry-After", "Cache-Control")},
        **problems(
            "bad_cursor",
            "unauthorized",
            "forbidden_scope",
            "cross_site_request",
            "not_found",
            "validation_error",
            "redis_unavailable",
        ),
    },
)
def get_batch(
    batch_id: BatchId,
    query: Annotated[BatchQuery, Query()],
    response: Response,
    services: ServicesDep,
    caller: ReadJobs,
) -> Batch:
    """Read a batch: how many of its jobs are in which state, and a page of its items.

    It is kept as long as the last of its jobs.
    """
    batch = batch_view(services, owned_batch(services, caller, batch_id), query)
    response.headers.update(batch_headers(batch))
    return batch
