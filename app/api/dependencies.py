"""Services: what the routes call. Built once by `create_app` and passed on, never imported."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from redis import Redis

from app.api.auth.api_keys import MARK, KeyFile, KeyStore
from app.api.auth.authentication import Authenticator
from app.api.auth.cross_site import CrossSiteCheck
from app.api.auth.rate_limits import Quotas
from app.api.batches.store import BatchStore
from app.api.jobs.confirmed_jobs import ConfirmedJobs
from app.api.jobs.notifications import JobNotifications
from app.api.jobs.service import JobService, measure_load
from app.api.readiness import Readiness
from app.api.redis_checks import RedisChecks
from app.api.submissions.admission import AdmissionControl
from app.api.submissions.create_job import JobCreator
from app.api.submissions.idempotency import IdempotencyKeys
from app.api.test_mode.simulator import JobSimulator
from app.api.ttl_cache import TtlCache
from app.api.uploads.receiver import UploadLimits, UploadReceiver
from app.api.webhooks.targets import WebhookTargets
from app.core.activity import ActivityStore
from app.core.deployment import Deployment
from app.core.jobs.opening import open_jobs
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.store import JobStore
from app.core.misconfiguration import named_by_settings
from app.core.redis.client import connect_for_notifications
from app.core.settings import ApiSettings
from app.core.storage.opening import open_storage
from app.core.storage.protocol import Storage
from app.core.storage.room import Reservations, ScratchRoom
from app.core.usage import UsageStore
from app.core.webhooks.outbox import Outbox
from app.core.webhooks.secrets import WebhookSecrets
from app.core.worker_info import WorkerInfo


@dataclass(frozen=True)
class Services:
    """Everything outside the process that a request may need."""

    settings: ApiSettings
    redis: Redis
    jobs: JobStore
    machine: JobStateMachine
    queue: ScoreQueue
    queue_status: QueueStatus
    worker_info: WorkerInfo
    storage: Storage
    deployment: Deployment
    uploads: UploadReceiver
    authenticator: Authenticator
    cross_site_check: CrossSiteCheck
    quotas: Quotas
    admission: AdmissionControl
    idempotency: IdempotencyKeys
    job_creator: JobCreator
    simulator: JobSimulator
    job_service: JobService
    notifications: JobNotifications
    batches: BatchStore
    webhook_targets: WebhookTargets
    outbox: Outbox
    usage: UsageStore
    activity: ActivityStore
    readiness: Readiness

    @classmethod
    def build(cls, settings: ApiSettings, redis: Redis, reservations: Reservations | None = None) -> "Services":
        """Create the storage directory and read the API keys; Redis is not asked yet."""
        keys, machine = settings.redis_keys, open_jobs(settings, redis)
        queue, replicas, queue_status = machine.queue, machine.replicas, QueueStatus(redis, keys)
        jobs = ConfirmedJobs(redis, keys, replicas)
        worker_info, quotas = WorkerInfo(redis, keys), Quotas(redis, keys)
        queue_load = TtlCache(partial(measure_load, queue_status, queue))
        scratch_bytes = ScratchRoom(
            settings.storage_location.folder,
            settings.scratch_dir,
            settings.audio_limits.max_pcm_bytes,
            n_workers=lambda: max(queue_load.last.n_alive, 1) if queue_load.last else 1,
        )
        with named_by_settings():  # it holds more than audio, which may be elsewhere
            settings.namespace_dir.mkdir(parents=True, exist_ok=True)
        storage = open_storage(settings, scratch_bytes=scratch_bytes)
        deployment = Deployment(redis, keys, storage)
        admission = AdmissionControl(
            queue_status,
            queue,
            quotas,
            settings.backlog_limits,
            backlog=TtlCache(queue_status.backlog),
            replicas=replicas,
            n_replicas=TtlCache(replicas.n_alive),
        )
        webhook_targets = WebhookTargets(settings.webhook_rules, WebhookSecrets(redis, keys))
        outbox = Outbox(redis, keys, result_ttl_s=settings.result_ttl_s, replicas=replicas)
        idempotency = IdempotencyKeys(redis, keys, result_ttl_s=settings.result_ttl_s)
        simulator = JobSimulator(machine)
        limits = UploadLimits(settings.max_upload_bytes, settings.upload_idle_timeout_s, settings.upload_timeout_s)
        return cls(
            settings=settings,
            redis=redis,
            jobs=jobs,
            machine=machine,
            queue=queue,
            queue_status=queue_status,
            worker_info=worker_info,
            storage=storage,
            deployment=deployment,
            uploads=UploadReceiver(storage, limits, reservations),
            authenticator=_authenticator(settings, redis),
            cross_site_check=CrossSiteCheck(
                active=settings.trusts_this_machine or bool(settings.allowed_hosts),
                hosts=settings.allowed_hosts,
                origins=settings.cors_origins,
            ),
            quotas=quotas,
            admission=admission,
            idempotency=idempotency,
            job_creator=JobCreator(
                machine,
                storage,
                deployment,
                idempotency,
                admission,
                settings.max_duration_s,
                webhook_targets,
                settings.audio_url_rules,
                settings.max_queued_urls,
                model=TtlCache(worker_info.model),
                queue_load=queue_load,
                indexed_metadata=settings.indexed_metadata,
                on_test_job=simulator.wake,
            ),
            simulator=simulator,
            job_service=JobService(
                machine,
                jobs,
                queue_status,
                storage,
                queue_load=queue_load,
                root_path=settings.root_path,
            ),
            batches=BatchStore(redis, keys, result_ttl_s=settings.result_ttl_s),
            webhook_targets=webhook_targets,
            outbox=outbox,
            usage=UsageStore(redis, keys),
            activity=ActivityStore(redis, keys),
            readiness=Readiness(
                RedisChecks(
                    redis,
                    keys,
                    queue,
                    outbox if settings.webhook_hosts else None,
                    min_replicas=settings.redis_min_replicas,
                    fetches=bool(settings.audio_url_hosts),
                ),
                storage,
                deployment,
                max_upload_bytes=settings.max_upload_bytes,
            ),
            notifications=JobNotifications(
                connect_for_notifications(settings.redis_url),
                keys,
                max_listeners=settings.max_listeners,
                max_per_tenant=settings.max_listeners_per_tenant,
            ),
        )


def _authenticator(settings: ApiSettings, redis: Redis) -> Authenticator:
    files = [KeyFile.load(settings.api_keys_file)] if settings.api_keys_file else []
    store = KeyStore(redis, settings.redis_keys, mark=settings.namespace_dir / MARK)
    return Authenticator(store, *files, required=settings.require_api_keys, limits=settings.key_limits)


# A coroutine although it awaits nothing: FastAPI would run a plain function in a thread, for each request.
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
