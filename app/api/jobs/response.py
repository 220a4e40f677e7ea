"""The response about one job, with the headers that say when to poll again and whether anything changed."""

import hashlib
from collections.abc import Mapping

from fastapi import Response

from app.api.jobs.wait_estimate import MIN_PACE_S, retry_after_s
from app.api.schemas.job import Job

#: A finished job never changes, but it can be deleted.
CACHE_S = 300


def job_response(job: Job, *, if_none_match: str | None = None, extra: Mapping[str, str] | None = None) -> Response:
    """The job, or 304 when the client's `If-None-Match` names the same content."""
    body = job.model_dump_json(by_alias=True).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, **polling_headers(job), **(extra or {})}
    if matches_etag(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def matches_etag(etag: str, if_none_match: str | None) -> bool:
    """Whether an `If-None-Match` header names this entity tag."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags


def polling_headers(job: Job) -> dict[str, str]:
    """Whether the response may be cached, and when to poll again."""
    if job.done:
        return {"Cache-Control": f"private, max-age={CACHE_S}"}
    wait_s = retry_after_s(job.queue.starts_in_s, position=job.queue.position) if job.queue else MIN_PACE_S
    return {"Cache-Control": "no-store", "Retry-After": str(wait_s)}
