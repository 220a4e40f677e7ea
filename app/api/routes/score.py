"""`POST /score`: create a job from a track."""

from fastapi import APIRouter, Request, Response

from app.api.auth.authentication import WriteScores
from app.api.dependencies import ServicesDep
from app.api.openapi.components import headers, problems, upload_operation
from app.api.schemas.job import Job
from app.api.submissions.headers import SubmissionHeadersDep
from app.api.submissions.single import submit_track
from app.api.submissions.submission import Submission

#: Headers that the response to any submission may have.
SUBMITTED = ("Idempotent-Replayed", "RateLimit", "RateLimit-Policy")
#: Problems for which any submission may be refused as a whole.
SUBMISSION_PROBLEMS = (
    "malformed_multipart",
    "missing_file",
    "too_many_files",
    "bad_header",
    "digest_mismatch",
    "unauthorized",
    "forbidden_scope",
    "idempotency_in_flight",
    "upload_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "validation_error",
    "idempotency_key_reused",
    "quota_exceeded",
    "queue_full",
    "redis_unavailable",
)

router = APIRouter(tags=["scoring"])


@router.post(
    "/score",
    status_code=202,
    response_model=Job,
    response_description="The job, which is durable from here on. Follow `Location` for its outcome.",
    openapi_extra=upload_operation(),
    responses={
        200: {
            "model": Job,
            "description": "The finished job: its scores were known, or it was done within `Prefer: wait`.",
            "headers": headers("Location", "Cache-Control", "Preference-Applied", *SUBMITTED),
        },
        202: {"headers": headers("Location", "Retry-After", "Cache-Control", *SUBMITTED)},
        **problems(*SUBMISSION_PROBLEMS, "storage_unavailable", "storage_full"),
    },
)
async def score_track(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Send a track to be scored.

    Either a multipart form with one part named `file`, or the file itself as the body with an `audio/*` or
    `application/octet-stream` content type and the options in the query string. What the file is, is told from its
    own bytes; its name and its declared media type are ignored. Decoding happens later: a track that cannot be decoded
    becomes a failed job. A track that was scored before for the same tenant is answered with those scores.
    """
    return await submit_track(Submission(request, services, caller, headers))
