"""Representation: a job as bytes, with the headers that say when to look again and whether anything changed."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from fastapi import Response

from app.api.jobs.wait_estimate import MIN_PACE_S, retry_after_s
from app.api.schemas.job import Job, QueuePlace
from app.core.jobs.models import now_s

#: A finished job never changes, but it can be deleted.
CACHE_S = 300


def job_response(job: Job, *, if_none_match: str | None = None, extra: Mapping[str, str] | None = None) -> Response:
    """The job, or 304 for a client that has this very representation already."""
    body = job.model_dump_json(by_alias=True).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, **polling_headers(job), **(extra or {})}
    if is_known(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether an `If-None-Match` names this entity tag."""
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in known or "*" in known


def polling_headers(job: Job) -> dict[str, str]:
    """Whether, and when, to look again."""
    if job.done:
        return {"Cache-Control": f"private, max-age={CACHE_S}"}
    pace_s = _queue_retry_after_s(job.queue) if job.queue else MIN_PACE_S
    return {"Cache-Control": "no-store", "Retry-After": str(pace_s)}


def _queue_retry_after_s(place: QueuePlace) -> int:
    start = place.estimated_start_at
    wait_s = datetime.fromisoformat(start).timestamp() - now_s() if start else None
    return retry_after_s(wait_s, position=place.position)
