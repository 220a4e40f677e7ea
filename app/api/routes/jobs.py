"""`/jobs`: list, read, follow, cancel and delete jobs."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.api.auth.authentication import DeleteJobs, ReadEmbeddings, ReadJobs, WriteScores, reauthenticate
from app.api.dependencies import Services, ServicesDep
from app.api.jobs.embeddings import read_embedding
from app.api.jobs.events import EventStream, JobEventFeed
from app.api.jobs.listing import listed_jobs
from app.api.jobs.long_poll import PreferWait, applied, wait_until_done
from app.api.jobs.response import CACHE_S, job_response, polling_headers
from app.api.listing import Listed
from app.api.openapi.components import headers, problems
from app.api.schemas.embedding import Embedding
from app.api.schemas.fields import known_form
from app.api.schemas.job import Job, JobEvent, JobFilters, JobList, JobQuery
from app.core.callers import Caller
from app.core.jobs.models import JobState

LIMITS = ("RateLimit", "RateLimit-Policy")
ACCESS_PROBLEMS = (
    "unauthorized",
    "forbidden_scope",
    "cross_site_request",
    "quota_exceeded",
    "redis_unavailable",
    "not_replicated",
)
JOB_PROBLEMS = (*ACCESS_PROBLEMS, "not_found", "job_expired")

JobId = Annotated[str, known_form("job"), Path(alias="id", description="The `id` that `POST /score` gave.")]

router = APIRouter(tags=["scoring"])


@router.get(
    "/jobs",
    response_description="A page of jobs, newest first.",
    responses={
        200: {"headers": headers("Cache-Control", *LIMITS)},
        **problems(*ACCESS_PROBLEMS, "bad_cursor", "validation_error"),
    },
)
def list_jobs(
    query: Annotated[JobQuery, Query()], response: Response, services: ServicesDep, caller: ReadJobs
) -> JobList:
    """List jobs, newest first.

    Follow `next_cursor` with the same filters until it is null. Jobs that are made meanwhile do not move the pages.
    """
    response.headers["Cache-Control"] = "no-store"
    listed = jobs_of(services, caller, query)
    ids, cursor = listed.page(query.limit, query.cursor)
    jobs = [job for job in services.jobs.get_many(ids) if job]
    return JobList(items=services.job_service.views(jobs), next_cursor=cursor)


def jobs_of(services: Services, caller: Caller, query: JobFilters) -> Listed:
    """The caller's jobs that pass the filters of a query."""
    filters = JobFilters(**query.model_dump(include=set(JobFilters.model_fields)))
    return listed_jobs(services.jobs, caller.tenant, filters, indexed_metadata=services.settings.indexed_metadata)


@router.get(
    "/jobs/{id}",
    response_model=Job,
    response_description="The job. A failed one is a 200 too: the request worked, the run did not.",
    responses={
        200: {"headers": headers("ETag", "Retry-After", "Cache-Control", "Preference-Applied", *LIMITS)},
        304: {"description": "Nothing changed.", "headers": headers("ETag", "Retry-After", "Cache-Control", *LIMITS)},
        **problems(*JOB_PROBLEMS, "validation_error"),
    },
)
async def get_job(
    request: Request,
    job_id: JobId,
    services: ServicesDep,
    caller: ReadJobs,
    prefer_wait_s: PreferWait,
    wait: Annotated[
        int | None, Query(ge=0, description="The same as `Prefer: wait=N`, for clients that cannot set headers.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="The `ETag` of the answer that is known.")
    ] = None,
) -> Response:
    """Read a job: its state, its place or progress, and its scores or its error once it is done."""
    wait_s = prefer_wait_s if wait is None else min(wait, services.settings.max_wait_s)
    if wait_s:
        await run_in_threadpool(services.job_service.get, caller, job_id)
        await wait_until_done(services, caller, job_id, timeout_s=wait_s, request=request)
        await run_in_threadpool(reauthenticate, request)
    job = await run_in_threadpool(lambda: services.job_service.view(services.job_service.get(caller, job_id)))
    return job_response(job, if_none_match=if_none_match, extra=applied(wait_s, job))


@router.post(
    "/jobs/{id}/cancel",
    response_description="The canceled job.",
    responses={
        200: {"headers": headers("Cache-Control", *LIMITS)},
        202: {
            "model": Job,
            "description": "The job runs, and will stop before its next segment of 30 s.",
            "headers": headers("Retry-After", "Cache-Control", *LIMITS),
        },
        **problems(*JOB_PROBLEMS, "job_already_finished"),
    },
)
def cancel_job(job_id: JobId, response: Response, services: ServicesDep, caller: WriteScores) -> Job:
    """Stop a job: one that waits at once, one that runs before its next segment. Again is no error."""
    record = services.job_service.cancel(services.job_service.get(caller, job_id))
    job = services.job_service.view(record)
    response.status_code = 200 if record.status is JobState.CANCELED else 202
    response.headers.update(polling_headers(job))
    return job


@router.delete(
    "/jobs/{id}",
    status_code=204,
    response_description="The job is gone.",
    responses={204: {"headers": headers(*LIMITS)}, **problems(*JOB_PROBLEMS)},
)
def delete_job(job_id: JobId, services: ServicesDep, caller: DeleteJobs) -> None:
    """Delete a job with its audio, scores and events, whatever its state; it is answered with 410 from then on."""
    services.job_service.purge(services.job_service.get(caller, job_id))


@router.get(
    "/jobs/{id}/events",
    status_code=200,
    response_class=EventStream,
    response_description="Server-sent events: `job.snapshot`, `job.progress`, then how the job ended.",
    responses={
        200: {"model": JobEvent, "headers": headers("Cache-Control", "X-Accel-Buffering", *LIMITS)},
        204: {"description": "The job is over, and its last event was heard.", "headers": headers(*LIMITS)},
        **problems(*JOB_PROBLEMS, "too_many_listeners"),
    },
)
async def stream_events(
    request: Request,
    job_id: JobId,
    services: ServicesDep,
    caller: ReadJobs,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The last event that was heard.")
    ] = None,
) -> Response:
    """Follow a job as server-sent events.

    `job.snapshot` comes first with the whole job, then `job.progress` at most four times a second, then one of
    `job.succeeded`, `job.failed` and `job.canceled` with the whole job, and the stream ends. With `Last-Event-ID` it
    goes on after that event instead, as long as the event is remembered. A stream ends when its API key is revoked.
    """
    feed = await run_in_threadpool(
        lambda: JobEventFeed(services, services.job_service.get(caller, job_id), after=last_event_id)
    )
    if feed.finished:
        return Response(status_code=204)
    return EventStream(feed, caller, reauthenticate=partial(reauthenticate, request))


@router.get(
    "/jobs/{id}/embedding",
    response_description="The embedding.",
    responses={200: {"headers": headers("Cache-Control", *LIMITS)}, **problems(*JOB_PROBLEMS)},
)
def get_embedding(job_id: JobId, response: Response, services: ServicesDep, caller: ReadEmbeddings) -> Embedding:
    """Read the embedding of the track of a job that was sent with `embedding=true` and succeeded.

    It is kept as long as the job, and is in no other answer. The key needs the scope `embeddings:read`, which keys do
    not have unless it is given to them.
    """
    embedding = read_embedding(services.jobs, services.job_service.get(caller, job_id))
    response.headers["Cache-Control"] = f"private, max-age={CACHE_S}"
    return embedding
