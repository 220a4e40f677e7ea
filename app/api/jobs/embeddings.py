"""The embedding of a job's track as its client reads it. NumPy is not needed for that."""

import base64
from struct import iter_unpack

from app.api.schemas.embedding import Embedding
from app.core.jobs.models import Job, JobState
from app.core.jobs.store import JobStore
from app.core.problems import Problem
from app.core.stored import Unreadable


def read_embedding(jobs: JobStore, job: Job) -> Embedding:
    """Raises `not_found` for a job that has none, `Unreadable` for one that cannot be shown. Blocking."""
    found = jobs.embedding(job.id)
    if found is None:
        raise Problem("not_found", _why_none(job))
    try:
        values = [float(f"{value:.9g}") for (value,) in iter_unpack("<f", base64.b64decode(found["float32"]))]
        return Embedding.model_validate(
            found | {"job_id": job.id, "dimension": len(values), "values": values, "base64": found["float32"]}
        )
    except (ValueError, LookupError, TypeError) as error:
        raise Unreadable(f"the embedding of {job.id} cannot be shown: {type(error).__name__}") from None


def _why_none(job: Job) -> str:
    if not job.with_embedding:
        return "The job was sent without `embedding=true`."
    if not job.status.done:
        return "The job is not over yet."
    return "The job has no scores." if job.status is not JobState.SUCCEEDED else "The job's worker keeps no embeddings."
