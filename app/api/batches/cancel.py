"""Canceling what is left of a batch."""

from collections.abc import Sequence

from app.api.batches.store import Batch
from app.api.dependencies import Services
from app.core.jobs.models import Job, JobState
from app.core.jobs.unfinished import slices


def cancel_unfinished(services: Services, batch: Batch) -> list[Job]:
    """End the queued jobs of a batch at once, and ask its running ones to stop; finished ones stay as they are.

    Returns the jobs that are canceled now, whose audio can be deleted. Blocking. Raises `NotReplicated`, after which
    the same call goes on.
    """
    canceled = list[Job]()
    for ids in slices(services.batches.unfinished(batch)):
        jobs = [job for job in services.machine.store.get_many(ids) if job]
        services.machine.cancel_all(jobs)
        states = services.machine.store.states([job.id for job in jobs])
        canceled += [job for job, state in zip(jobs, states, strict=True) if state is JobState.CANCELED]
    return canceled


def delete_audio(services: Services, jobs: Sequence[Job]) -> None:
    """Blocking, and long for many jobs in an object store. What is not deleted is found by a reconciler later."""
    for job in jobs:
        services.storage.delete(job.storage_key)
