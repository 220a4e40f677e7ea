"""`POST /score` and `POST /score/raw`: one track in, one job out. To an idempotency key they are one route."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from app.api.concurrency import run_to_completion
from app.api.jobs.long_poll import applied, wait_until_done
from app.api.jobs.response import polling_headers
from app.api.submissions.headers import HashingRequest, check_digest
from app.api.submissions.idempotency import Claim, StoredResponse, fingerprint
from app.api.submissions.submission import Submission, Work, run_idempotent
from app.api.uploads.receiver import RAW_TYPES, Upload, UploadMetadata
from app.core.jobs.models import Job, QueuePosition, new_job_id
from app.core.problems import Problem

log = logging.getLogger(__name__)

ROUTE = "POST /score"


async def submit_track(submission: Submission, *, raw_only: bool = False) -> Response:
    """Create a job, or return the response to an earlier request with the same idempotency key.

    With `raw_only` a form is refused. What the headers decide is decided before the body is read. Raises nothing but
    `Problem`s.
    """
    metadata = submission.services.uploads.check_headers(submission.request)
    if raw_only and metadata.boundary is not None:
        raise Problem("unsupported_media_type", "A form is sent to `POST /score`.", accepted=list(RAW_TYPES))
    run = partial(_run, submission, metadata)
    return await run_idempotent(
        submission, Work(ROUTE, metadata, run, partial(_read_fingerprint, submission, metadata))
    )


async def _run(submission: Submission, metadata: UploadMetadata, claim: Claim | None) -> StoredResponse:
    job_id = claim.job_id if claim else new_job_id()
    if metadata.options.webhook_url:  # of a query, so that it is known before the body is read
        targets = submission.services.webhook_targets
        await run_in_threadpool(targets.check, metadata.options.webhook_url, submission.caller.tenant)
    async with submission.admitted(), _receive(submission, metadata, job_id) as upload:
        job, response = await run_to_completion(_create_job, submission, metadata, upload, claim)
    return await wait_for_end(submission, job, response, claim)


async def wait_for_end(
    submission: Submission, job: Job, response: StoredResponse, claim: Claim | None
) -> StoredResponse:
    """The response about a job that was made, once it is done, if the client wants to wait for so long."""
    wait_s = submission.headers.wait_s
    if job.status.done or not wait_s:
        return response
    try:
        job = await wait_until_done(
            submission.services, submission.caller, job.id, timeout_s=wait_s, request=submission.request
        )
        if job.status.done:
            response = await run_to_completion(respond, submission, job, claim)
    except Exception:  # the job is durable, whether or not it can be waited for
        log.warning("a job could not be waited for", extra={"job_id": job.id}, exc_info=True)
    return response


async def _read_fingerprint(submission: Submission, metadata: UploadMetadata) -> str:
    async with _receive(submission, metadata, new_job_id()) as upload:
        await run_to_completion(_flush, submission, metadata, upload)
        return fingerprint(upload.part.sha256, upload.options)


@asynccontextmanager
async def _receive(submission: Submission, metadata: UploadMetadata, job_id: str) -> AsyncIterator[Upload]:
    """The upload. A form with a declared digest is hashed as a whole, beside the file in it."""
    body = HashingRequest(submission.request, submission.headers.content_sha256 if metadata.boundary else None)
    async with submission.services.uploads.receive(body.request, metadata, job_id=job_id) as upload:
        body.check()
        yield upload


def _flush(submission: Submission, metadata: UploadMetadata, upload: Upload) -> None:
    """Write the rest of the file. The digest of a raw body is that of the file, known only now."""
    upload.part.flush()
    if metadata.boundary is None:
        check_digest(submission.headers.content_sha256, upload.part.sha256)


def _create_job(
    submission: Submission, metadata: UploadMetadata, upload: Upload, claim: Claim | None
) -> tuple[Job, StoredResponse]:
    _flush(submission, metadata, upload)
    job, position = submission.services.job_creator.create(
        upload, submission.caller, cancel_after_s=submission.headers.cancel_after_s, claim=claim
    )
    return job, respond(submission, job, claim, position)


def respond(
    submission: Submission, job: Job, claim: Claim | None, position: QueuePosition | None = None
) -> StoredResponse:
    """The response about a job, stored under the request's idempotency key."""
    view = submission.services.job_service.view(job, position)
    headers = {"Location": view.links.itself, **polling_headers(view), **applied(submission.headers.wait_s, job)}
    response = StoredResponse(200 if job.status.done else 202, headers, view.model_dump_json(by_alias=True).encode())
    submission.store(claim, response, job.fingerprint or "")
    return response
