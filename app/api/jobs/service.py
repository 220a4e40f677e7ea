"""Jobs that exist: read, show, cancel and purge them. Knows no HTTP requests or responses."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.api.jobs.views import job_view
from app.api.jobs.wait_estimate import QueueEstimate, QueueLoad
from app.api.schemas.fields import timestamp
from app.api.schemas.job import Job
from app.core.callers import Caller
from app.core.jobs.models import Job as JobRecord
from app.core.jobs.models import JobState, QueuePosition
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.store import JobStore
from app.core.problems import Problem, pointer
from app.core.storage.protocol import Storage
from app.core.stored import Unreadable, set_aside

log = logging.getLogger(__name__)

Positions = Sequence[QueuePosition | None]


@dataclass(frozen=True)
class JobService:
    """What a client can do with its jobs. Every method is blocking, and may raise `NotReplicated`."""

    machine: JobStateMachine
    jobs: JobStore
    queue_status: QueueStatus
    storage: Storage
    queue_load: Callable[[], QueueLoad]
    root_path: str = ""

    def get(self, caller: Caller, job_id: str) -> JobRecord:
        """The caller's job. Raises `job_expired`, or `not_found` for an unknown job and for another tenant's.

        Raises `Unreadable` for a job of the caller's whose record cannot be read.
        """
        try:
            job = self.jobs.get(job_id)
        except Unreadable:
            if self._owns(caller, job_id):
                raise
            job = None
        if job is not None and job.tenant == caller.tenant:
            return job
        raise self._missing(caller.tenant, job_id)

    def get_many(self, caller: Caller, job_ids: Sequence[str]) -> list[JobRecord]:
        """The caller's jobs, in one round trip. Raises as `get` does; the problem points at every missing job."""
        jobs = [job for job in self.jobs.get_many(job_ids) if job is not None and job.tenant == caller.tenant]
        present = {job.id for job in jobs}
        missing = [index for index, job_id in enumerate(job_ids) if job_id not in present]
        if missing:
            errors = [{"pointer": pointer(("job_ids", index)), "detail": "There is no such job."} for index in missing]
            raise self._missing(caller.tenant, job_ids[missing[0]], errors=errors)
        return jobs

    def view(self, job: JobRecord, position: QueuePosition | None = None) -> Job:
        """A job as its client reads it. Asks for the queue position of a waiting job unless it is given.

        Raises `Unreadable` for a job that cannot be shown.
        """
        return self._view(job, self._estimates([job], [position] if position else None))

    def views(self, jobs: Sequence[JobRecord]) -> list[Job]:
        """The same for many jobs, in as many round trips as for one, without those that cannot be shown."""
        estimates = self._estimates(jobs)
        views = []
        for job in jobs:
            try:
                views.append(self._view(job, estimates))
            except Unreadable as error:
                set_aside(job.id, str(error))
        return views

    def cancel(self, job: JobRecord) -> JobRecord:
        """End a queued job at once, or ask a running one to stop; returns the record as it is then.

        Raises `job_already_finished` for a job that has succeeded or failed, `job_expired` for one that is gone by now.
        """
        self.machine.cancel(job)
        after = self.jobs.get(job.id)
        if after is None:
            raise self._missing(job.tenant, job.id)
        if after.status in (JobState.SUCCEEDED, JobState.FAILED):
            raise Problem("job_already_finished", f"The job has {after.status}.", status_now=after.status)
        if after.status is JobState.CANCELED:
            self.storage.delete(job.storage_key)
        return after

    def purge(self, job: JobRecord) -> None:
        """Delete a job and its audio, whatever its state; a run in progress stops at its next step."""
        self.machine.purge(job)
        self.storage.delete(job.storage_key)

    def _view(self, job: JobRecord, estimates: Mapping[str, QueueEstimate]) -> Job:
        ttl_s = self.machine.result_ttl_s
        return job_view(job, result_ttl_s=ttl_s, root_path=self.root_path, queue=estimates.get(job.id))

    def _estimates(self, jobs: Sequence[JobRecord], positions: Positions | None = None) -> dict[str, QueueEstimate]:
        waiting = [job for job in jobs if job.status is JobState.QUEUED]
        if not waiting:
            return {}
        try:
            load, positions = self.queue_load(), positions or self.queue_status.positions(waiting)
            pairs = zip(waiting, positions, strict=True)
            return {job.id: load.estimate(job, position) for job, position in pairs if position}
        except Exception:
            # An estimate is not worth an error: the job that it is for may have been accepted just now.
            log.warning("queue position unavailable", exc_info=True)
            return {}

    def _owns(self, caller: Caller, job_id: str) -> bool:
        fields = self.jobs.get_fields([job_id], ["tenant"])[0]
        return fields is not None and fields["tenant"] == caller.tenant

    def _missing(self, tenant: str, job_id: str, **extensions: Any) -> Problem:
        expired_at = self.jobs.expired_at(job_id, tenant=tenant)
        if expired_at is not None:
            return Problem("job_expired", expired_at=timestamp(expired_at), **extensions)
        return Problem("not_found", "There is no such job.", **extensions)


def measure_load(status: QueueStatus, queue: ScoreQueue) -> QueueLoad:
    """The load of the service as Redis shows it now, by its clock. Blocking."""
    rate, running, backlog = status.throughput(), tuple(status.running()), status.backlog()
    workers = queue.workers()
    return QueueLoad(
        status.now_s(), rate, workers.active, running, backlog, n_paused=workers.paused, models=workers.models
    )
