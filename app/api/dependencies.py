"""Services: what the routes call. Built once by `create_app` and handed around, never imported."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request
from redis import Redis
from redis.exceptions import RedisError

from app.api.auth.api_keys import KeyFile, KeyStore
from app.api.auth.authentication import Authenticator, Caller
from app.api.auth.rate_limits import Quotas
from app.api.batches.store import Batch, BatchStore
from app.api.jobs.notifications import JobNotifications
from app.api.jobs.views import job_view
from app.api.jobs.wait_estimate import QueueEstimate, QueueLoad
from app.api.schemas.fields import timestamp
from app.api.schemas.job import Job as JobBody
from app.api.submissions.admission import AdmissionControl
from app.api.submissions.create_job import JobCreator
from app.api.submissions.idempotency import IdempotencyKeys
from app.api.ttl_cache import TtlCache
from app.api.uploads.receiver import UploadLimits, UploadReceiver
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import Job, JobState, JobStore, QueuePosition, now_s
from app.core.problems import Problem, pointer
from app.core.redis_client import connect_for_notifications
from app.core.settings import ApiSettings
from app.core.storage.local import AudioStorage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """Everything outside the process that a request may need."""

    settings: ApiSettings
    redis: Redis
    jobs: JobStore
    queue: ScoreQueue
    storage: AudioStorage
    uploads: UploadReceiver
    authenticator: Authenticator
    quotas: Quotas
    admission: AdmissionControl
    idempotency: IdempotencyKeys
    job_creator: JobCreator
    notifications: JobNotifications
    batches: BatchStore
    queue_load: Callable[[], QueueLoad]
    """How fast the service worked a moment ago, and at what. Blocking."""

    @classmethod
    def build(cls, settings: ApiSettings, redis: Redis) -> "Services":
        """Make the storage directory and read the API keys; Redis is not asked yet."""
        jobs, storage = JobStore(redis, result_ttl_s=settings.result_ttl_s), AudioStorage(settings.audio_dir)
        queue, quotas = ScoreQueue(redis, name=settings.queue_name), Quotas(redis)
        admission = AdmissionControl(
            jobs, queue, quotas, settings.max_queued_audio_s, waiting=TtlCache(jobs.next_position)
        )
        idempotency = IdempotencyKeys(redis, result_ttl_s=settings.result_ttl_s)
        limits = UploadLimits(settings.max_upload_bytes, settings.upload_idle_timeout_s, settings.upload_timeout_s)
        return cls(
            settings=settings,
            redis=redis,
            jobs=jobs,
            queue=queue,
            storage=storage,
            uploads=UploadReceiver(storage, limits),
            authenticator=_authenticator(settings, redis),
            quotas=quotas,
            admission=admission,
            idempotency=idempotency,
            job_creator=JobCreator(
                jobs, queue, storage, idempotency, admission, settings.max_duration_s, model=TtlCache(jobs.model)
            ),
            batches=BatchStore(redis, jobs),
            notifications=JobNotifications(
                connect_for_notifications(settings.redis_url), max_listeners=settings.max_listeners
            ),
            queue_load=TtlCache(partial(_queue_load, jobs, queue)),
        )

    def job_view(self, job: Job, place: QueuePosition | None = None) -> JobBody:
        """What a job's client reads, its place in the queue included, which is asked for if not given. Blocking."""
        return self.job_views([job], [place] if place else None)[0]

    def job_views(self, jobs: Sequence[Job], places: Sequence[QueuePosition | None] | None = None) -> list[JobBody]:
        """The same for many, in as many round trips as for one. Blocking."""
        queues = self._queues([job for job in jobs if job.status is JobState.QUEUED], places)
        return [job_view(job, result_ttl_s=self.settings.result_ttl_s, queue=queues.get(job.id)) for job in jobs]

    def cancel(self, job: Job) -> Job:
        """End a queued job at once, ask a running one to stop; how it stands then. Blocking.

        Raises `job_already_finished` for one that succeeded or failed, and `job_expired` for one that is gone by now.
        """
        self.jobs.cancel(job)
        after = self.jobs.get(job.id)
        if after is None:
            raise Problem("job_expired", expired_at=timestamp(now_s()))
        if after.status in (JobState.SUCCEEDED, JobState.FAILED):
            raise Problem("job_already_finished", f"The job has {after.status}.", status_now=after.status)
        if after.status is JobState.CANCELED:
            self._drop(job)
        return after

    def purge(self, job: Job) -> None:
        """Forget a job and delete its audio, whatever its state; a run in progress stops at its next step. Blocking."""
        self.jobs.purge(job)
        self._drop(job)

    def _drop(self, job: Job) -> None:
        self.queue.forget(job.id)
        self.storage.delete(job.storage_key)

    def _queues(
        self, waiting: Sequence[Job], places: Sequence[QueuePosition | None] | None
    ) -> dict[str, QueueEstimate]:
        if not waiting:
            return {}
        try:
            load, places = self.queue_load(), places or self.jobs.queue_positions(waiting)
        except RedisError:
            # An estimate is not worth an error: what it would belong to may be a job that was just accepted.
            log.warning("no places in the queue", exc_info=True)
            return {}
        return {job.id: load.estimate(job, place) for job, place in zip(waiting, places, strict=True) if place}


def _queue_load(jobs: JobStore, queue: ScoreQueue) -> QueueLoad:
    return QueueLoad(now=now_s(), rate=jobs.rate(), n_workers=queue.n_workers(), running=tuple(jobs.running()))


def owned_job(services: Services, caller: Caller, job_id: str) -> Job:
    """The caller's job. Raises `not_found`, for another tenant's job as for none, or `job_expired`. Blocking."""
    job = services.jobs.get(job_id)
    if job is not None and job.tenant == caller.tenant:
        return job
    raise _missing(services, caller, job_id)


def owned_jobs(services: Services, caller: Caller, job_ids: Sequence[str]) -> list[Job]:
    """The caller's jobs, in one round trip. Raises as for one job, and points at all that are missing. Blocking."""
    jobs = [job for job in services.jobs.get_many(job_ids) if job is not None and job.tenant == caller.tenant]
    found = {job.id for job in jobs}
    missing = [index for index, job_id in enumerate(job_ids) if job_id not in found]
    if missing:
        errors = [{"pointer": pointer(("job_ids", index)), "detail": "There is no such job."} for index in missing]
        raise _missing(services, caller, job_ids[missing[0]], errors=errors)
    return jobs


def owned_batch(services: Services, caller: Caller, batch_id: str) -> Batch:
    """The caller's batch; raises `not_found`, for another tenant's as for none. Blocking."""
    batch = services.batches.get(caller.tenant, batch_id)
    if batch is None:
        raise Problem("not_found", "There is no such batch.")
    return batch


def _missing(services: Services, caller: Caller, job_id: str, **extensions: Any) -> Problem:
    expired_at = services.jobs.expired_at(job_id, tenant=caller.tenant)
    if expired_at is not None:
        return Problem("job_expired", expired_at=timestamp(expired_at), **extensions)
    return Problem("not_found", "There is no such job.", **extensions)


def _authenticator(settings: ApiSettings, redis: Redis) -> Authenticator:
    files = [KeyFile.load(settings.api_keys_file)] if settings.api_keys_file else []
    return Authenticator(KeyStore(redis), *files, required=settings.require_api_keys, limits=settings.key_limits)


# A coroutine although it awaits nothing: a plain function would cost a thread for each request.
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
