"""A job as its client reads it."""

from app.api.jobs.results import result_view
from app.api.jobs.wait_estimate import QueueEstimate
from app.api.schemas.fields import timestamp
from app.api.schemas.job import Job
from app.core.jobs.models import Job as JobRecord
from app.core.jobs.models import JobState
from app.core.json_types import Json
from app.core.problems import under
from app.core.stored import Unreadable


def job_view(job: JobRecord, *, result_ttl_s: int, root_path: str = "", queue: QueueEstimate | None = None) -> Job:
    """A record as its client reads it. `queue` is the estimate for a job that waits.

    `root_path` is what the paths in it begin with. Raises `Unreadable` for a record with values that this version
    cannot show.
    """
    try:
        return _job_view(job, result_ttl_s, root_path, queue)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise Unreadable(f"{job.id} cannot be shown: {type(error).__name__}") from None  # its text shows values


def _job_view(job: JobRecord, result_ttl_s: int, root_path: str, queue: QueueEstimate | None) -> Job:
    path = f"{root_path}/jobs/{job.id}"
    return Job.model_validate(
        {
            "id": job.id,
            "livemode": job.livemode,
            "status": job.status,
            "done": job.status.done,
            "status_reason": job.status_reason,
            "external_id": job.external_id,
            "batch_id": job.batch_id,
            "metadata": job.metadata,
            "webhook_url": job.webhook_url,
            "webhook_events": job.webhook_events,
            "created_at": timestamp(job.created_at),
            "started_at": timestamp(job.started_at),
            "finished_at": timestamp(job.finished_at),
            "deadline": timestamp(job.deadline),
            "cancel_requested_at": timestamp(job.cancel_requested_at),
            "expires_at": timestamp(job.finished_at + result_ttl_s if job.finished_at else None),
            "audio": job.audio,
            "queue": _queue(queue),
            "progress": _progress(job),
            "result": result_view(job),
            "error": job.error and under(root_path, job.error),
            "model": job.model,
            "timings": job.timings,
            "attempt": job.attempt,
            "cached": job.cached,
            "request_id": job.request_id,
            "links": _links(job, path),
        }
    )


def _links(job: JobRecord, path: str) -> Json:
    has_embedding = job.with_embedding and job.status is JobState.SUCCEEDED
    embedding = f"{path}/embedding" if has_embedding else None
    return {"self": path, "cancel": f"{path}/cancel", "events": f"{path}/events", "embedding": embedding}


def _queue(estimate: QueueEstimate | None) -> Json | None:
    if estimate is None:
        return None
    return {
        "position": estimate.position,
        "audio_seconds_ahead": estimate.audio_seconds_ahead,
        "starts_in_s": estimate.starts_in_s,
        "estimated_start_at": timestamp(estimate.estimated_start_at),
        "estimated_done_at": timestamp(estimate.estimated_done_at),
    }


def _progress(job: JobRecord) -> Json:
    # A job that waits to run again starts from nothing, whatever its last run had done.
    done = 0 if job.status is JobState.QUEUED else job.progress["segments_done"]
    total = job.progress["segments_total"]
    ratio = round(done / total, 3) if total else 0.0
    return {"stage": _stage(job), "segments_done": done, "segments_total": total, "ratio": ratio}


def _stage(job: JobRecord) -> str:
    """Where the job is, or how far it came. One that ended without audio waited for that, and has no URL any more."""
    if job.status is JobState.QUEUED:
        return "fetching" if job.source else "queued"
    stage: str = job.progress["stage"]
    return "fetching" if stage == "queued" and not job.audio else stage
