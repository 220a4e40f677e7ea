"""Known scores: a tenant's track that was scored before is not scored again by the same model."""

from dataclasses import replace

from app.api.jobs.views import job_view
from app.core.jobs.models import Job, JobState
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.stored import Unreadable, set_aside


def with_known_scores(job: Job, store: JobStore, model_version: str) -> tuple[Job, Json | None]:
    """The job, finished if this model has scored the same bytes before, and the embedding that it asks for. Blocking.

    Scores without all that it asks for do not answer it.
    """
    scored = store.cached_result(tenant=job.tenant, sha256=job.audio["sha256"], model_version=model_version)
    if scored is None or (job.with_segments and "segment_scores" not in (scored.result or {})):
        return job, None
    embedding = store.embedding(scored.id) if job.with_embedding else None
    if job.with_embedding and embedding is None:
        return job, None
    finished = _finished_like(job, scored)
    return (finished, embedding) if _can_be_shown(finished, scored) else (job, None)


def _can_be_shown(job: Job, scored: Job) -> bool:
    """Whether a job can be answered with these scores: a newer version may have written what this one cannot show."""
    try:
        job_view(job, result_ttl_s=0)
    except Unreadable as error:
        set_aside(scored.id, str(error))
        return False
    return True


def _finished_like(job: Job, scored: Job) -> Job:
    return replace(
        job,
        status=JobState.SUCCEEDED,
        audio=scored.audio,
        progress=scored.progress,
        result=scored.result,
        model=scored.model,
        timings={**job.timings, "total_s": 0.0},
        cached=True,
    )
