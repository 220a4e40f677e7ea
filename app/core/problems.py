"""Problems: every error that a client can meet, in one table, in the shape of RFC 9457.

The same object is used in a response, in a failed job and on the page `/problems/<slug>`. Standard library only,
because the worker fails jobs with it. Nothing here knows HTTP responses or requests.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.core.json_types import Json

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class ProblemKind:
    """One row of the table: what is always the same about a problem.

    `is_limit` says of one with a status of 500 or more that the server only keeps to a limit: nothing is wrong with it.
    """

    code: str
    status: int
    title: str
    meaning: str
    remedy: str
    retryable: bool = False
    retry_after_s: int | None = None
    is_limit: bool = False

    @property
    def slug(self) -> str:
        return self.code.replace("_", "-")

    @property
    def type(self) -> str:
        return f"/problems/{self.slug}"


_KINDS = (
    ProblemKind(
        "malformed_request",
        400,
        "The request is not valid HTTP",
        "The request's head cannot be read, can be read in two ways, or is too long. The connection is closed.",
        "Let an HTTP library build the request.",
    ),
    ProblemKind(
        "malformed_multipart",
        400,
        "The form cannot be read",
        "The body is not the multipart form that its headers announce, or it ends too soon.",
        "Let an HTTP library build the form, or send the audio as a raw body.",
    ),
    ProblemKind(
        "digest_mismatch",
        400,
        "The bytes are not those that were announced",
        "The SHA-256 of the body differs from its `Content-Digest`.",
        "Send the body again; compute the digest over exactly the bytes of the body.",
    ),
    ProblemKind(
        "bad_cursor",
        400,
        "The cursor cannot be used",
        "The cursor is not one that this server gave, or the filters are not those that it was given with.",
        "Keep the filters while following `next_cursor`, or start again without a cursor.",
    ),
    ProblemKind(
        "missing_file",
        400,
        "No file was sent",
        "The form has no part for the file.",
        "Send a track in a part named `file`, the tracks of a batch in parts named `files`.",
    ),
    ProblemKind(
        "too_many_files",
        400,
        "More files were sent than the form may have",
        "`POST /score` takes one file, `POST /batches` a few.",
        "Spread the files over several requests; `batch_id` joins them into one batch.",
    ),
    ProblemKind(
        "bad_header",
        400,
        "A header cannot be read",
        "A header of the request contradicts itself or its own format.",
        "Correct the header that the detail names.",
    ),
    ProblemKind(
        "unauthorized",
        401,
        "The API key is missing or wrong",
        "This server asks for an API key that it knows.",
        "Send `Authorization: Bearer <key>` or `X-API-Key: <key>`.",
    ),
    ProblemKind(
        "forbidden_scope",
        403,
        "The API key may not do this",
        "The key is valid, and lacks the scope that `required_scope` names.",
        "Use a key that has the scope.",
    ),
    ProblemKind(
        "cross_site_request",
        403,
        "A page of another site may not use this service",
        "This server asks for no API key, and the request's `Host` is no name of it, or its `Origin` is another site.",
        "Call the service by the name `localhost`. For another name, as behind a proxy, make API keys or set "
        "`APEX_ALLOWED_HOSTS`; for pages of another site set `APEX_CORS_ORIGINS`.",
    ),
    ProblemKind(
        "not_found",
        404,
        "There is nothing here",
        "The path leads nowhere, or the job is unknown or has expired.",
        "Check the path and the id.",
    ),
    ProblemKind(
        "method_not_allowed",
        405,
        "The method is not allowed here",
        "The path exists, but not for this method.",
        "Use a method that the `Allow` header names.",
    ),
    ProblemKind(
        "not_acceptable",
        406,
        "No format was asked for that there is",
        "The `Accept` header takes none of the formats in which the answer can be had.",
        "Send `Accept` with one of the formats that the detail names, or leave it out.",
    ),
    ProblemKind(
        "upload_timeout",
        408,
        "The upload took too long",
        "No byte came for a while, or the whole upload outlasted its limit.",
        "Send the file again over a faster or steadier connection.",
        retryable=True,
    ),
    ProblemKind(
        "idempotency_in_flight",
        409,
        "The first request with this key is not done",
        "Another request with the same `Idempotency-Key` is being worked on right now.",
        "Send the same request again after the time in `Retry-After`, or follow `job_id` where it is given.",
        retryable=True,
        retry_after_s=1,
    ),
    ProblemKind(
        "job_already_finished",
        409,
        "The job is over",
        "A job that has succeeded or failed cannot be canceled; `status_now` says which.",
        "Read the job; delete it if it is not wanted.",
    ),
    ProblemKind(
        "jobs_not_comparable",
        409,
        "The jobs cannot be compared",
        "Some of the jobs have no scores, or different models scored them; `jobs` names them and says why.",
        "Wait until every job has succeeded, or leave out those that did not; compare within one model version.",
    ),
    ProblemKind(
        "job_expired",
        410,
        "The job is gone",
        "The job was deleted, or was finished so long ago that its result was removed.",
        "Send the track again.",
    ),
    ProblemKind(
        "payload_too_large",
        413,
        "The file is larger than this server accepts",
        "The declared or the counted bytes are over the limit.",
        "Send a smaller file; a lossy format of the same track will do.",
    ),
    ProblemKind(
        "unsupported_media_type",
        415,
        "This is no audio that can be read",
        "The first bytes belong to no accepted container. File names and media types are not trusted.",
        "Send one of the formats that `accepted` lists.",
    ),
    ProblemKind(
        "validation_error",
        422,
        "A field is not valid",
        "A field is unknown, given twice, too long, or of the wrong kind.",
        "Correct the fields that `errors` points at.",
    ),
    ProblemKind(
        "webhook_forbidden",
        422,
        "No webhook is sent to this URL",
        "The server sends no webhooks, or none to this host, port or scheme, whatever its operator's rules say.",
        "Use an `https` URL on a host that the operator has allowed with `APEX_WEBHOOK_HOSTS`, or send none.",
    ),
    ProblemKind(
        "webhook_secret_missing",
        422,
        "There is no secret to sign webhooks with",
        "This tenant has no secret yet, and no webhook is sent without a signature.",
        "Have the operator make one with `apex webhooks secret create`, and verify what you receive with it.",
    ),
    ProblemKind(
        "idempotency_key_reused",
        422,
        "The idempotency key belongs to another request",
        "The same `Idempotency-Key` was used before with another track or other options.",
        "Make a new key for each track; repeat a key only with the same request.",
    ),
    ProblemKind(
        "audio_undecodable",
        422,
        "The audio cannot be decoded",
        "The file is damaged, or is not what its first bytes promise.",
        "Export the track again and send the new file.",
    ),
    ProblemKind(
        "audio_too_short",
        422,
        "The track is too short",
        "Fewer seconds were decoded than a score needs.",
        "Send a longer track; `GET /model` names the limit.",
    ),
    ProblemKind(
        "audio_too_long",
        422,
        "The track is too long",
        "More seconds were decoded than this server accepts.",
        "Send a shorter track; `GET /model` names the limit.",
    ),
    ProblemKind(
        "audio_silent",
        422,
        "The track is silent",
        "Every sample has the same value, so a score would mean nothing.",
        "Check the export; the file holds no sound.",
    ),
    ProblemKind(
        "audio_no_stream",
        422,
        "The file holds no audio",
        "The container was read, and there is no audio stream in it.",
        "Send a file with an audio stream.",
    ),
    ProblemKind(
        "quota_exceeded",
        429,
        "The API key has used up a limit",
        "A limit of this key is reached; `violated_policies` names it.",
        "Try again after the time in `Retry-After`.",
        retryable=True,
        retry_after_s=5,
    ),
    ProblemKind(
        "queue_share_exceeded",
        429,
        "The tenant's share of the queue is full",
        "As much of this tenant's audio waits as it may have waiting; the rest of the queue is kept for others.",
        "Try again after the time in `Retry-After`, which follows from how fast the queue drains.",
        retryable=True,
        retry_after_s=30,
    ),
    ProblemKind(
        "internal_error",
        500,
        "Something went wrong on our side",
        "This is a fault of the server, and it was logged under the request id.",
        "Try once more; then report the request id.",
        retryable=True,
    ),
    ProblemKind(
        "model_output_invalid",
        500,
        "The model gave no usable number",
        "The model's output was not finite: a fault of the weights or the device, not of the track.",
        "Try once more; then report the request id.",
        retryable=True,
    ),
    ProblemKind(
        "worker_lost",
        500,
        "The run died with its worker",
        "Every run of this job ended before it was done.",
        "Send the track again.",
        retryable=True,
    ),
    ProblemKind(
        "url_forbidden",
        422,
        "The URL may not be fetched",
        "This service fetches no tracks, or none from this URL: only `https` URLs are fetched, of hosts, ports and "
        "addresses that the operator allows.",
        "Use an `https` URL on a host that the operator has allowed with `APEX_AUDIO_URL_HOSTS`, or send the file.",
    ),
    ProblemKind(
        "url_status",
        422,
        "The URL answers with another status than 200",
        "The host of the URL answered, and not with the track. Redirects are not followed.",
        "Look at `status_received`: a link that has expired must be made anew, and a redirect resolved by you.",
    ),
    ProblemKind(
        "url_too_large",
        422,
        "The URL has more bytes than a track may have",
        "The track at the URL is larger than the largest upload that is taken.",
        "Encode the track with fewer bits, for instance as FLAC or MP3.",
    ),
    ProblemKind(
        "url_unreachable",
        504,
        "The track could not be fetched",
        "Every try to fetch the track failed: its host was not found, did not answer, was too slow, or broke off.",
        "Look whether the URL can be fetched, and send it again.",
        retryable=True,
    ),
    ProblemKind(
        "audio_lost",
        500,
        "The audio is gone",
        "The server's storage has lost the uploaded track before it was scored.",
        "Send the track again.",
        retryable=True,
    ),
    ProblemKind(
        "model_unavailable",
        500,
        "No worker runs the model that the job asks for",
        "The job asks for a model version, and no worker of that model came to it for a day.",
        "Send the track again, without `model_version` or with one that `GET /capacity` lists.",
    ),
    ProblemKind(
        "gpu_out_of_memory",
        500,
        "The device ran out of memory",
        "The run needed more memory than the device had left.",
        "Send the track again later.",
        retryable=True,
    ),
    ProblemKind(
        "queue_full",
        503,
        "Too much audio waits already",
        "The queue holds as much audio as this server wants to promise for.",
        "Try again after the time in `Retry-After`, which follows from how fast the queue drains.",
        retryable=True,
        retry_after_s=30,
        is_limit=True,
    ),
    ProblemKind(
        "too_many_connections",
        503,
        "The server has too many connections",
        "This server serves as many connections as it may. The new one is closed.",
        "Try again after the time in `Retry-After`; send several requests over one connection.",
        retryable=True,
        retry_after_s=1,
        is_limit=True,
    ),
    ProblemKind(
        "overloaded",
        503,
        "The server cannot begin the request",
        "This machine gives the server no thread that the request needs. What the request asks for may have been done.",
        "Try again after the time in `Retry-After`, with an idempotency key where the request makes something.",
        retryable=True,
        retry_after_s=2,
    ),
    ProblemKind(
        "too_many_listeners",
        503,
        "Too many clients follow jobs already",
        "This server streams as many events as it may.",
        "Poll the job instead, or try again after the time in `Retry-After`.",
        retryable=True,
        retry_after_s=5,
        is_limit=True,
    ),
    ProblemKind(
        "redis_unavailable",
        503,
        "Jobs cannot be stored or read right now",
        "The server cannot reach its Redis, or Redis refuses to write.",
        "Try again after the time in `Retry-After`.",
        retryable=True,
        retry_after_s=2,
    ),
    ProblemKind(
        "not_replicated",
        503,
        "The loss of one machine could undo this",
        "The request was carried out, but too few replicas of Redis confirmed that in time. Tracks that were sent "
        "without an `Idempotency-Key` were deleted again.",
        "Send the same request again, with its `Idempotency-Key` if it had one: no second job is made.",
        retryable=True,
        retry_after_s=2,
    ),
    ProblemKind(
        "storage_unavailable",
        503,
        "Uploads cannot be stored right now",
        "The server's storage refused to open, write or sync a file, or is not the one that it should be.",
        "Try again after the time in `Retry-After`.",
        retryable=True,
        retry_after_s=5,
    ),
    ProblemKind(
        "shutting_down",
        503,
        "The server is shutting down",
        "The request was not finished before the server had to stop.",
        "Send it again; another process will take it.",
        retryable=True,
        retry_after_s=2,
    ),
    ProblemKind(
        "not_ready",
        503,
        "The server is not ready",
        "At least one of the readiness checks failed.",
        "See `checks` for what is wrong.",
        retryable=True,
        retry_after_s=5,
    ),
    ProblemKind(
        "timed_out",
        504,
        "The run took too long",
        "One run of the job outlasted the time that a run may take.",
        "Send the track again, or a shorter one.",
        retryable=True,
    ),
    ProblemKind(
        "storage_full",
        507,
        "There is no room for the upload",
        "The server's storage is full.",
        "Try again after the time in `Retry-After`.",
        retryable=True,
        retry_after_s=60,
    ),
)

#: Every kind by its code.
PROBLEMS: Mapping[str, ProblemKind] = {kind.code: kind for kind in _KINDS}


class Problem(Exception):
    """Ends a request with an error for its sender. The detail never repeats what was sent."""

    def __init__(
        self, code: str, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **extensions: Any
    ) -> None:
        self.kind = PROBLEMS[code]
        self.detail = detail or self.kind.meaning
        self.headers = dict(headers or {})
        self.extensions = extensions
        super().__init__(f"{code}: {self.detail}")

    def object(self, **members: Any) -> Json:
        """The problem as JSON, with `members` of the occasion, such as `instance`."""
        return problem_object(self.kind.code, self.detail, **members, **self.extensions)


def problem_object(code: str, detail: str, **extensions: Any) -> Json:
    """A problem as JSON. `KeyError` for a code that is not in the table."""
    kind = PROBLEMS[code]
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
        "retryable": kind.retryable,
        **extensions,
    }


def under(root_path: str, problem: Json) -> Json:
    """A problem as JSON whose paths begin with `root_path`. Stored problems are told without it."""
    paths = {name: root_path + problem[name] for name in ("type", "instance") if problem.get(name)}
    return problem | paths


def validation_problem(errors: Iterable[tuple[Iterable[str | int], str]]) -> Problem:
    """A `validation_error` from pairs of a field's path and what is wrong with it."""
    found = [{"pointer": pointer(path), "detail": detail} for path, detail in errors]
    return Problem("validation_error", errors=found)


def invalid_field(name: str, detail: str) -> Problem:
    """A `validation_error` about one field."""
    return validation_problem([((name,), detail)])


_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def pointer(path: Iterable[str | int]) -> str:
    """A JSON pointer, as far as the path is made of plain names: anything else may be somebody's secret."""
    plain = []
    for step in map(str, path):
        if not _PLAIN.fullmatch(step):
            break
        plain.append(step)
    return "/".join(["#", *plain])
