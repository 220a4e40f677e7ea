"""`POST /score`, `POST /score/raw` and `POST /score/url`: create a job from a track."""

from fastapi import APIRouter, Request, Response

from app.api.auth.authentication import WriteScores
from app.api.dependencies import ServicesDep
from app.api.openapi.components import headers, problems, raw_upload_operation, upload_operation, url_operation
from app.api.schemas.job import Job
from app.api.submissions.from_url import JSON_TYPE, media_type, submit_url
from app.api.submissions.headers import SubmissionHeadersDep
from app.api.submissions.single import submit_track
from app.api.submissions.submission import Submission
from app.core.json_types import Json

#: Headers that the response to any submission may have.
SUBMITTED = ("Idempotent-Replayed", "RateLimit", "RateLimit-Policy")
#: Problems for which a form may be refused.
FORM_PROBLEMS = ("malformed_multipart", "missing_file", "too_many_files")
#: Problems for which a track cannot be kept.
STORAGE_PROBLEMS = ("storage_unavailable", "storage_full")
#: Problems for which any submission may be refused as a whole.
SUBMISSION_PROBLEMS = (
    "bad_header",
    "digest_mismatch",
    "unauthorized",
    "forbidden_scope",
    "cross_site_request",
    "idempotency_in_flight",
    "upload_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "validation_error",
    "webhook_forbidden",
    "webhook_secret_missing",
    "idempotency_key_reused",
    "quota_exceeded",
    "queue_share_exceeded",
    "queue_full",
    "redis_unavailable",
    "not_replicated",
)

router = APIRouter(tags=["scoring"])


def responses(*codes: str) -> dict[int | str, Json]:
    """What either operation answers; `codes` are those of its own."""
    return {
        200: {
            "model": Job,
            "description": "The finished job: its scores were known, or it was done within `Prefer: wait`.",
            "headers": headers("Location", "Cache-Control", "Preference-Applied", *SUBMITTED),
        },
        202: {
            "model": Job,
            "description": "The job, which is durable from here on. Follow `Location` for its outcome.",
            "headers": headers("Location", "Retry-After", "Cache-Control", *SUBMITTED),
        },
        **problems(*codes, *SUBMISSION_PROBLEMS),
    }


@router.post(
    "/score",
    status_code=202,
    response_model=Job,
    openapi_extra=upload_operation(),
    responses=responses(*FORM_PROBLEMS, "url_forbidden", *STORAGE_PROBLEMS),
)
async def score_track(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Send a track to be scored, in a form.

    What the file is, is told from its own bytes; its name and its declared media type are ignored, and empty fields
    count as absent. Decoding happens later: a track that cannot be decoded becomes a failed job. A track that was
    scored before for the same tenant is answered with those scores. A body of JSON is taken as `POST /score/url` takes
    it.
    """
    submission = Submission(request, services, caller, headers)
    return await (submit_url if media_type(request) == JSON_TYPE else submit_track)(submission)


@router.post(
    "/score/raw",
    status_code=202,
    response_model=Job,
    openapi_extra=raw_upload_operation(),
    responses=responses(*STORAGE_PROBLEMS),
)
async def score_raw(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Send a track to be scored, as the body itself.

    The same as `POST /score` with the options in the query string. The content type may be `application/octet-stream`,
    `audio/*`, `video/*`, `application/ogg` or absent: the bytes decide.
    """
    return await submit_track(Submission(request, services, caller, headers), raw_only=True)


@router.post(
    "/score/url",
    status_code=202,
    response_model=Job,
    openapi_extra=url_operation(),
    responses=responses("url_forbidden"),
)
async def score_url(
    request: Request, services: ServicesDep, caller: WriteScores, headers: SubmissionHeadersDep
) -> Response:
    """Have a track scored that is at a URL.

    The track is fetched later, from hosts that the server's operator allows, within the limits of an upload: until it
    is there, the job is `queued`, and its `progress.stage` is `fetching`. A track that cannot be had becomes a failed
    job.
    """
    return await submit_url(Submission(request, services, caller, headers))
