"""`/batches`: send several tracks in one request, and follow their jobs together."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.api.auth.authentication import ReadJobs, WriteScores, reauthenticate
from app.api.batches.cancel import cancel_unfinished, delete_audio
from app.api.batches.events import BatchEventFeed
from app.api.batches.listing import listed_batches
from app.api.batches.views import batch_headers, batch_view, owned_batch, summary_view
from app.api.dependencies import ServicesDep
from app.api.jobs.events import EventStream
from app.api.openapi.components import batch_operation, headers, lines_operation, manifest_operation, problems
from app.api.routes.score import FORM_PROBLEMS, STORAGE_PROBLEMS, SUBMISSION_PROBLEMS, SUBMITTED
from app.api.schemas.batch import Batch, BatchFilters, BatchList, BatchListQuery, BatchQuery
from app.api.schemas.fields import known_form
from app.api.submissions.batch import submit_batch
from app.api.submissions.from_url import media_type
from app.api.submissions.headers import SubmissionHeadersDep
from app.api.submissions.manifest import JSONL_TYPES, MANIFEST_TYPES, submit_manifest
from app.api.submissions.submission import Submission
from app.core.json_types import Json

BatchId = Annotated[str, known_form("batch"), Path(alias="id", description="The `id` that `POST /batches` gave.")]

#: Problems for which any batch, or any list of them, may not be read.
READ_PROBLEMS = ("unauthorized", "forbidden_scope", "cross_site_request", "validation_error", "redis_unavailable")

MADE: dict[int | str, Json] = {
    207: {"headers": headers("Location", "Retry-After", "Cache-Control", "Preference-Applied", *SUBMITTED)}
}
FROM_URLS = {**MADE, **problems(*SUBMISSION_PROBLEMS)}

router = APIRouter(tags=["scoring"])


@router.post(
    "/batches",
    status_code=207,
    response_model=Batch,
    response_description="What became of each file, in the order in which they were sent.",
    openapi_extra=batch_operation(),
    responses={
        **MADE,
        **problems(*FORM_PROBLEMS, *SUBMISSION_PROBLEMS, *STORAGE_PROBLEMS),
    },
)
async def create_batch(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Send several tracks at once, up to 20, each in a part named `files`. A manifest of URLs is taken here, too.

    Each file has an outcome of its own: a job, or a problem such as 413 or 415. Nothing is accepted before the whole
    form has arrived, so a client that is cut off has made no job. For more tracks send each to `POST /score` with the
    `batch_id` that this gave.
    """
    submission = Submission(request, services, caller, headers)
    return await (submit_manifest if media_type(request) in MANIFEST_TYPES else submit_batch)(submission)


@router.post(
    "/batches/urls",
    status_code=207,
    response_model=Batch,
    response_description="What became of each of the first 100 URLs, in the order in which they were sent.",
    openapi_extra=manifest_operation(),
    responses=FROM_URLS,
)
async def create_batch_from_urls(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Have many tracks scored that are at URLs, up to 10,000.

    Each URL has an outcome of its own, and is fetched as that of `POST /score/url`. JSON Lines are taken here, too.
    """
    return await submit_manifest(Submission(request, services, caller, headers))


@router.post(
    "/batches/lines",
    status_code=207,
    response_model=Batch,
    response_description="What became of each of the first 100 URLs, in the order in which they were sent.",
    openapi_extra=lines_operation(),
    responses=FROM_URLS,
)
async def create_batch_from_lines(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Have many tracks scored that are at URLs, one a line: JSON Lines, with the options of the batch in the query.

    The same as `POST /batches/urls` for lists that are written and read line by line.
    """
    return await submit_manifest(Submission(request, services, caller, headers), JSONL_TYPES)


@router.get(
    "/batches",
    response_description="A page of batches, newest first.",
    responses={200: {"headers": headers("Cache-Control")}, **problems(*READ_PROBLEMS, "bad_cursor")},
)
def list_batches(
    query: Annotated[BatchListQuery, Query()], response: Response, services: ServicesDep, caller: ReadJobs
) -> BatchList:
    """List batches, newest first, each with its counts and without its items.

    Follow `next_cursor` with the same filters until it is null. Batches that are made meanwhile do not move the pages.
    """
    response.headers["Cache-Control"] = "no-store"
    filters = BatchFilters(**query.model_dump(include=set(BatchFilters.model_fields)))
    ids, cursor = listed_batches(services.batches, caller.tenant, filters).page(query.limit, query.cursor)
    batches = services.batches.get_many(caller.tenant, ids)
    statuses, root_path = services.batches.statuses(batches), services.settings.root_path
    items = [summary_view(*pair, root_path=root_path) for pair in zip(batches, statuses, strict=True)]
    return BatchList(items=items, next_cursor=cursor)


@router.get(
    "/batches/{id}",
    response_description="The batch as it stands.",
    responses={
        200: {"headers": headers("Retry-After", "Cache-Control")},
        **problems(*READ_PROBLEMS, "bad_cursor", "not_found"),
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


@router.post(
    "/batches/{id}/cancel",
    response_description="The batch, which has no unfinished job any more.",
    responses={
        200: {"headers": headers("Cache-Control")},
        202: {
            "model": Batch,
            "description": "The batch. Jobs of it run, and will stop before their next segment of 30 s.",
            "headers": headers("Retry-After", "Cache-Control"),
        },
        **problems(*READ_PROBLEMS, "not_found", "not_replicated"),
    },
)
def cancel_batch(
    batch_id: BatchId, response: Response, services: ServicesDep, caller: WriteScores, after: BackgroundTasks
) -> Batch:
    """Stop what is left of a batch: jobs that wait at once, those that run before their next segment.

    Finished jobs stay as they are, so this may be repeated, and of a batch that is done it changes nothing.
    """
    batch = owned_batch(services, caller, batch_id)
    after.add_task(delete_audio, services, cancel_unfinished(services, batch))
    shown = summary_view(batch, services.batches.status(batch), root_path=services.settings.root_path)
    response.status_code = 200 if shown.done else 202
    response.headers.update(batch_headers(shown))
    return shown


@router.get(
    "/batches/{id}/events",
    status_code=200,
    response_class=EventStream,
    response_description="Server-sent events: `batch.snapshot`, `batch.progress`, then `batch.completed`.",
    responses={
        200: {"model": Batch, "headers": headers("Cache-Control", "X-Accel-Buffering")},
        204: {"description": "The batch is done, and that was heard.", "headers": headers()},
        **problems(*READ_PROBLEMS, "not_found", "too_many_listeners"),
    },
)
async def stream_batch_events(
    request: Request,
    batch_id: BatchId,
    services: ServicesDep,
    caller: ReadJobs,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The last event that was heard.")
    ] = None,
) -> Response:
    """Follow a batch as server-sent events, each with the batch as it stands, without its items.

    `batch.snapshot` comes first, then `batch.progress` when a job changes its state, at most four times a second, then
    `batch.completed` once every item is final, and the stream ends. A stream ends when its API key is revoked.
    """
    feed = await run_in_threadpool(
        lambda: BatchEventFeed(services, owned_batch(services, caller, batch_id), after=last_event_id)
    )
    if feed.finished:
        return Response(status_code=204)
    return EventStream(feed, caller, reauthenticate=partial(reauthenticate, request))
