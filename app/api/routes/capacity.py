"""`GET /capacity`: how much audio waits, how many workers there are, and how long a new track would wait."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from app.api.auth.authentication import RequireScope
from app.api.dependencies import Services, ServicesDep
from app.api.openapi.components import headers, problems
from app.api.schemas.capacity import Capacity, ModelWorkers, QueueDepth
from app.core.callers import Caller

router = APIRouter(tags=["operations"])


@router.get(
    "/capacity",
    responses={
        200: {"headers": headers("Cache-Control", "RateLimit", "RateLimit-Policy")},
        **problems("unauthorized", "cross_site_request", "quota_exceeded", "redis_unavailable"),
    },
)
def get_capacity(
    response: Response, services: ServicesDep, caller: Annotated[Caller, Depends(RequireScope())]
) -> Capacity:
    """Read how much audio waits, how many workers are alive, and how long a new track would wait."""
    response.headers["Cache-Control"] = "no-store"
    return capacity(services, caller.tenant)


def capacity(services: Services, tenant: str) -> Capacity:
    """The load of the service, as a client of this tenant reads it. Blocking."""
    load = services.job_service.queue_load()
    backlog = load.backlog
    wait_s = load.wait_s(backlog.audio_s_before_next(tenant))
    return Capacity(
        queue=QueueDepth(jobs=backlog.jobs, audio_seconds=round(backlog.audio_s, 1)),
        jobs_running=len(load.running),
        workers_alive=load.n_alive,
        workers_paused=load.n_paused,
        models=[
            ModelWorkers(version=version, workers_alive=len(each), workers_paused=sum(one.is_paused for one in each))
            for version, each in load.models.items()
        ],
        audio_seconds_per_second=None if load.rate is None else round(load.rate, 2),
        estimated_wait_s=None if wait_s is None else round(wait_s, 1),
    )
