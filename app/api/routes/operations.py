"""`GET /operations`: how the service as a whole is doing, for who operates it."""

import math
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api.auth.authentication import ReadOperations
from app.api.dependencies import ServicesDep
from app.api.openapi.components import headers, problems
from app.api.schemas.fields import timestamp
from app.api.schemas.operations import ActivityInterval, Operations, StorageStatus, WorkerStatus
from app.core.activity import MAX_HOURS, Activity
from app.core.jobs.queue import Worker
from app.core.storage.folder import MIN_FREE_UPLOADS
from app.core.storage.protocol import Storage

router = APIRouter(tags=["operations"])


@router.get(
    "/operations",
    responses={
        200: {"headers": headers("Cache-Control", "RateLimit", "RateLimit-Policy")},
        **problems(
            "unauthorized",
            "forbidden_scope",
            "cross_site_request",
            "quota_exceeded",
            "validation_error",
            "redis_unavailable",
        ),
    },
)
def get_operations(
    response: Response,
    services: ServicesDep,
    _caller: ReadOperations,
    hours: Annotated[int, Query(description=f"Of how many hours; taken as 1 to {MAX_HOURS}.")] = 6,
) -> Operations:
    """Read which workers are alive, how much room the storage has, and how jobs of all tenants ended lately.

    The key needs the scope `ops:read`, which keys have only where it is given. No tenant and no job is named.
    """
    response.headers["Cache-Control"] = "no-store"
    return Operations(
        workers=[_worker(worker) for worker in services.queue.workers().alive],
        storage=StorageStatus(
            free_bytes=_free_bytes(services.storage),
            needed_bytes=MIN_FREE_UPLOADS * services.settings.max_upload_bytes,
        ),
        activity=[_interval(each) for each in services.activity.latest(hours=hours)],
    )


def _worker(worker: Worker) -> WorkerStatus:
    return WorkerStatus(
        host=worker.host, model_version=worker.model_version, device=worker.device, paused=worker.is_paused
    )


def _free_bytes(storage: Storage) -> int | None:
    """None also for a storage that is away: `/readyz` names what is wrong with it."""
    try:
        free = storage.free_bytes()
    except OSError:
        return None
    return None if math.isinf(free) else int(free)


def _interval(activity: Activity) -> ActivityInterval:
    mean_wait_s = round(activity.wait_ms / activity.waits / 1000, 3) if activity.waits else None
    return ActivityInterval(
        start_at=timestamp(activity.start_s) or "",
        succeeded=activity.succeeded,
        failed=activity.failed,
        canceled=activity.canceled,
        audio_seconds=activity.audio_ms / 1000,
        mean_wait_s=mean_wait_s,
        longest_wait_s=activity.longest_wait_ms / 1000 if activity.waits else None,
        failures=dict(activity.failures),
    )
