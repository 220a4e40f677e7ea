"""`POST /batches`: several tracks in one request, a job for each. No job is created before all of it has arrived."""

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from app.api.batches.store import EXTERNAL_ID, Batch, new_batch_id
from app.api.batches.views import Outcome, batch_headers, batch_view, made_view
from app.api.concurrency import run_to_completion
from app.api.errors import log_failure
from app.api.jobs.long_poll import wait_until_done
from app.api.schemas.batch import Batch as BatchView
from app.api.schemas.batch import BatchQuery
from app.api.schemas.options import TrackOptions, UrlItem
from app.api.submissions.headers import HashingRequest
from app.api.submissions.idempotency import Claim, StoredResponse, fingerprint
from app.api.submissions.submission import Submission, Work, run_idempotent
from app.api.test_mode.outcomes import asked_by_name
from app.api.uploads.receiver import BatchFile, BatchUpload, Upload, UploadMetadata
from app.core.json_types import Json
from app.core.logging import REQUEST_ID
from app.core.problems import Problem
from app.core.redis.replicas import NotReplicated

log = logging.getLogger(__name__)

ROUTE = "POST /batches"

#: Redis is kept from its other clients for some milliseconds by so many.
URLS_AT_A_TIME = 100

#: Reads a body; the claim is None for a repeated request, of which nothing is made.
Receive = Callable[[Claim | None], AbstractAsyncContextManager[BatchUpload]]


async def submit_batch(submission: Submission) -> Response:
    """Create a batch, or return the response to an earlier request with the same idempotency key.

    A problem with one file becomes that file's item; a problem with the form is raised.
    """
    metadata = submission.services.uploads.check_batch_headers(submission.request)
    return await submit_received(submission, metadata, partial(_receive, submission, metadata))


async def submit_received(submission: Submission, metadata: UploadMetadata, receive: Receive) -> Response:
    """The same for tracks that `receive` reads from the body."""
    run, read_fingerprint = partial(_run, submission, receive), partial(_read_fingerprint, receive)
    return await run_idempotent(submission, Work(ROUTE, metadata, run, read_fingerprint))


async def _run(submission: Submission, receive: Receive, claim: Claim | None) -> StoredResponse:
    async with submission.admitted(), receive(claim) as upload:
        batch, outcomes = await run_to_completion(_create_batch, submission, upload, claim)
    if submission.headers.wait_s:
        with suppress(Exception):  # the jobs are durable, whether or not they can be waited for
            await _wait(submission, batch)
    filenames = [file.filename for file in upload.files]
    return await run_to_completion(_respond, submission, batch, outcomes, filenames, claim)


async def _read_fingerprint(receive: Receive) -> str:
    async with receive(None) as upload:
        return _fingerprint(upload)


@asynccontextmanager
async def _receive(
    submission: Submission, metadata: UploadMetadata, _claim: Claim | None
) -> AsyncIterator[BatchUpload]:
    body = HashingRequest(submission.request, submission.headers.content_sha256)
    async with submission.services.uploads.receive_batch(body.request, metadata.boundary or b"") as upload:
        body.check()
        yield upload


def _create_batch(submission: Submission, upload: BatchUpload, claim: Claim | None) -> tuple[Batch, Sequence[Outcome]]:
    """Create the batch and its jobs; continue one that an earlier request with the same key left incomplete.

    Returns what came of the files that this request has dealt with, too.
    """
    submission.services.webhook_targets.check(upload.options.webhook_url, submission.caller.tenant)
    n_urls = sum(isinstance(file.outcome, UrlItem) for file in upload.files)
    if n_urls and not (claim and claim.taken_over):  # else some of its jobs are in flight already
        submission.services.admission.check_in_flight(submission.caller, n_urls)
    batch = _begin_batch(submission, upload, claim)
    options = upload.options.for_track(batch.id)
    with submission.services.machine.replicas.confirmed() as client:
        n_existing = submission.services.batches.n_items(batch, client=client)
    try:
        outcomes = list(_add_files(submission, batch, upload.files, n_existing, options))
        with submission.services.machine.replicas.confirmed() as client:
            submission.services.batches.seal(batch, client=client)
        return batch, outcomes
    except NotReplicated:
        if claim is None:  # under a key, the request that repeats this one goes on with the batch
            _withdraw(submission, batch)
        raise


def _withdraw(submission: Submission, batch: Batch) -> None:
    """Delete the jobs of a batch that nobody has been told of."""
    services = submission.services
    job_ids = [item for item in services.batches.items(batch) if isinstance(item, str)]
    for job in services.jobs.get_many(job_ids):
        if job:
            services.job_creator.withdraw(job)


def _begin_batch(submission: Submission, upload: BatchUpload, claim: Claim | None) -> Batch:
    """The record of the batch: the one that an earlier request with the same key wrote, or a new one."""
    batches, options, tenant = submission.services.batches, upload.options, submission.caller.tenant
    batch_id = f"bat_{claim.job_id.removeprefix('job_')}" if claim else new_batch_id()
    batch = Batch(
        batch_id,
        tenant,
        options.batch_external_id,
        options.metadata,
        fingerprint=_fingerprint(upload),
        idempotency=claim.entry if claim else None,
        request_id=REQUEST_ID.get(),
        webhook_url=options.webhook_url,
        webhook_events=list(options.events),
    )
    existing = batches.get(tenant, batch_id) if claim and claim.taken_over else None
    if existing and existing.fingerprint != batch.fingerprint:
        raise Problem("idempotency_key_reused")
    if claim and not submission.services.idempotency.renew(claim):
        raise Problem("idempotency_in_flight")
    return existing or batches.create(batch)


def _add_files(
    submission: Submission, batch: Batch, files: Sequence[BatchFile], n_existing: int, options: TrackOptions
) -> Iterator[Outcome]:
    """Add what the batch lacks, in order: tracks to fetch many at a time, files one by one."""
    while n_existing < len(files):
        urls = list(_leading_urls(files[n_existing : n_existing + URLS_AT_A_TIME]))
        added = _add_urls(submission, batch, urls, n_existing, options) if len(urls) > 1 else []
        if not added:  # no URL, or another item came between
            added = [_add_file(submission, batch, files[n_existing], options)]
        n_existing += len(added)
        yield from added


def _leading_urls(files: Sequence[BatchFile]) -> Iterator[UrlItem]:
    for file in files:
        if not isinstance(file.outcome, UrlItem):
            return
        yield file.outcome


def _add_urls(
    submission: Submission, batch: Batch, urls: Sequence[UrlItem], first_index: int, options: TrackOptions
) -> list[Outcome]:
    """What came of some tracks, up to the first that got no job."""
    results = submission.services.job_creator.create_from_urls(
        [(item.url, _options_of(item, options)) for item in urls],
        submission.caller,
        first_index=first_index,
        cancel_after_s=submission.headers.cancel_after_s,
    )
    return [
        _reject(submission, batch, each, item.external_id) if isinstance(each, Problem) else each
        for item, each in zip(urls, results, strict=False)  # up to the first that got no job
    ]


def _options_of(item: UrlItem, options: TrackOptions) -> TrackOptions:
    return options.model_copy(update={"external_id": item.external_id, "metadata": item.metadata})


def _add_file(submission: Submission, batch: Batch, file: BatchFile, options: TrackOptions) -> Outcome:
    """Create the job of one track, or add the problem that it has in place of one; returns which."""
    creator, caller, after_s = submission.services.job_creator, submission.caller, submission.headers.cancel_after_s
    outcome = file.outcome
    if isinstance(outcome, Problem):
        return _reject(submission, batch, outcome, file.external_id)
    try:
        if isinstance(outcome, UrlItem):
            own = _options_of(outcome, options)
            return creator.create_from_url(outcome.url, own, caller, cancel_after_s=after_s)
        if not caller.livemode:
            options = options.model_copy(update={"external_id": asked_by_name(file.filename)})
        return creator.create(replace(outcome, options=options), caller, cancel_after_s=after_s)[0]
    except Problem as problem:
        return _reject(submission, batch, problem, file.external_id)


def _reject(submission: Submission, batch: Batch, problem: Problem, external_id: str | None) -> Json:
    log_failure(problem)
    item = problem.object(instance=submission.path, request_id=REQUEST_ID.get())
    if external_id is not None:
        item[EXTERNAL_ID] = external_id
    submission.services.batches.reject(batch, item)
    return item


async def _wait(submission: Submission, batch: Batch) -> None:
    services, deadline = submission.services, time.monotonic() + submission.headers.wait_s
    for item in await run_in_threadpool(services.batches.items, batch):
        if isinstance(item, str):
            await wait_until_done(services, submission.caller, item, timeout_s=max(deadline - time.monotonic(), 0.0))


def _respond(
    submission: Submission,
    batch: Batch,
    outcomes: Sequence[Outcome],
    filenames: Sequence[str | None],
    claim: Claim | None,
) -> StoredResponse:
    """The response about a batch, stored under the request's idempotency key."""
    view = _view(submission, batch, outcomes, filenames)
    wait_s = submission.headers.wait_s
    applied = {"Preference-Applied": f"wait={wait_s}"} if wait_s and view.done else {}
    headers = {"Location": view.links.itself, **batch_headers(view), **applied}
    response = StoredResponse(207, headers, view.model_dump_json(by_alias=True).encode())
    submission.store(claim, response, batch.fingerprint or "")
    return response


def _view(
    submission: Submission, batch: Batch, outcomes: Sequence[Outcome], filenames: Sequence[str | None]
) -> BatchView:
    try:
        return batch_view(submission.services, batch, BatchQuery(limit=len(filenames)), filenames=filenames)
    except Exception:  # the jobs are durable, whether or not they can be read
        if len(outcomes) < len(filenames):
            raise
        log.warning("a batch could not be read", extra={"batch_id": batch.id}, exc_info=True)
        return made_view(submission.services, batch, outcomes, filenames=filenames)


def _fingerprint(upload: BatchUpload) -> str:
    """Fingerprint of what a request asks for: its tracks in their order, and its options."""
    digests = map(_digest, upload.files)
    return fingerprint(hashlib.sha256("\n".join(digests).encode()).hexdigest(), upload.options)


def _digest(file: BatchFile) -> str:
    match file.outcome:
        case Upload():
            return file.outcome.part.sha256
        case UrlItem():
            return hashlib.sha256(file.outcome.model_dump_json().encode()).hexdigest()
    return "-"
