"""`POST /score` with a JSON body, and `POST /score/url`: a job for the track at a URL, which is fetched later."""

from functools import partial

from fastapi import Request, Response
from python_multipart.multipart import parse_options_header

from app.api.concurrency import run_to_completion
from app.api.json_body import MAX_JSON_BYTES, parse, read_body
from app.api.query import refuse_query
from app.api.schemas.options import TrackOptions, UrlTrack
from app.api.submissions.create_job import url_fingerprint
from app.api.submissions.headers import HashingRequest
from app.api.submissions.idempotency import Claim, StoredResponse
from app.api.submissions.single import ROUTE, respond, wait_for_end
from app.api.submissions.submission import Submission, Work, run_idempotent
from app.api.uploads.receiver import UploadMetadata
from app.core.jobs.models import Job
from app.core.problems import Problem

JSON_TYPE = "application/json"
#: That the body is no track itself: a declared digest is of the whole of it, as of a form.
JSON_BODY = UploadMetadata(b"", TrackOptions())


def media_type(request: Request) -> str:
    """What the body is declared as, without parameters."""
    return parse_options_header(request.headers.get("content-type"))[0].decode("latin-1")


async def submit_url(submission: Submission) -> Response:
    """Create a job, or return the response to an earlier request with the same idempotency key."""
    if media_type(submission.request) != JSON_TYPE:
        raise Problem("unsupported_media_type", "A URL is sent as JSON.", accepted=[JSON_TYPE])
    work = Work(ROUTE, JSON_BODY, partial(_run, submission), partial(_read_fingerprint, submission))
    return await run_idempotent(submission, work)


async def _run(submission: Submission, claim: Claim | None) -> StoredResponse:
    async with submission.admitted():
        track = await _read(submission)
        job, response = await run_to_completion(_create_job, submission, track, claim)
    return await wait_for_end(submission, job, response, claim)


async def _read(submission: Submission) -> UrlTrack:
    refuse_query(submission.request, "The fields of a track at a URL are in the body.")
    body = HashingRequest(submission.request, submission.headers.content_sha256)
    content = await read_body(body.request, max_bytes=MAX_JSON_BYTES)
    body.check()
    return parse(UrlTrack, content)


async def _read_fingerprint(submission: Submission) -> str:
    track = await _read(submission)
    return url_fingerprint(track.url, track)


def _create_job(submission: Submission, track: UrlTrack, claim: Claim | None) -> tuple[Job, StoredResponse]:
    job = submission.services.job_creator.create_from_url(
        track.url, track, submission.caller, cancel_after_s=submission.headers.cancel_after_s, claim=claim
    )
    return job, respond(submission, job, claim)
