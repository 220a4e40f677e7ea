"""Results of many jobs at once: `GET /results` and `GET /batches/{id}/results`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from app.api.auth.authentication import ReadJobs
from app.api.batches.views import owned_batch
from app.api.dependencies import ServicesDep
from app.api.openapi.components import headers, problems
from app.api.results.lines import FORMATS
from app.api.results.stream import results_of_batch, results_of_jobs
from app.api.routes.batches import READ_PROBLEMS, BatchId
from app.api.routes.jobs import jobs_of
from app.api.schemas.job import JobFilters
from app.core.json_types import Json

router = APIRouter(tags=["scoring"])

LINES: Json = {
    "content": {media_type: {"schema": {"type": "string"}} for media_type in FORMATS},
    "headers": headers("Cache-Control"),
}


@router.get(
    "/results",
    response_class=StreamingResponse,
    response_description="A line for each job, newest first.",
    responses={200: LINES, **problems(*READ_PROBLEMS, "not_acceptable", "not_replicated")},
)
def stream_results(
    request: Request, query: Annotated[JobFilters, Query()], services: ServicesDep, caller: ReadJobs
) -> StreamingResponse:
    """Read all jobs that pass the filters in one answer, newest first: `Accept` says in which format.

    `application/jsonl` has the job as `GET /jobs/{id}` gives it, one a line. `text/csv` has a table with a column for
    each score; text that a spreadsheet would take for a formula has an apostrophe before it. An answer that is cut off
    is not complete.
    """
    return results_of_jobs(request, services, jobs_of(services, caller, query))


@router.get(
    "/batches/{id}/results",
    response_class=StreamingResponse,
    response_description="A line for each item, in the order of `index`.",
    responses={200: LINES, **problems(*READ_PROBLEMS, "not_found", "not_acceptable", "not_replicated")},
)
def stream_batch_results(
    request: Request, batch_id: BatchId, services: ServicesDep, caller: ReadJobs
) -> StreamingResponse:
    """Read all items of a batch in one answer, in their order: `Accept` says in which format, as for `GET /results`.

    `application/jsonl` has the item as `GET /batches/{id}` gives it. An item that came to no job has a line, too.
    """
    return results_of_batch(request, services, owned_batch(services, caller, batch_id))
