"""`GET /capacity`: how much audio waits, how many workers there are, and how long a new track would wait."""

from fastapi import APIRouter, Depends, Response

from app.api.auth.authentication import RequireScope
from app.api.dependencies import Services, ServicesDep
from app.api.openapi.components import headers, problems
from app.api.schemas.capacity import Capacity, QueueDepth

router = APIRouter(tags=["operations"], dependencies=[Depends(RequireScope())])


@router.get(
    "/capacity",
    responses={
        200: {"headers": headers("Cache-Control", "RateLimit", "RateLimit-Policy")},
        **problems("unauthorized", "quota_exceeded", "redis_unavailable"),
    },
)
def get_capacity(response: Response, services: ServicesDep) -> Capacity:
    """Read how much audio waits, how many workers are alive, and how long a new track would wait."""
    response.headers["Cache-Control"] = "no-store"
    return capacity(services)


def capacity(services: Services) -> Capacity:
    """The load of the service, as a client reads it. Blocking."""
    load, next_position = services.job_service.queue_load(), services.queue_status.next_position()
    ahead_s = next_position.audio_seconds_ahead
    wait_s = load.wait_s(ahead_s)
    return Capacity(
        queue=QueueDepth(jobs=next_position.position - 1, audio_seconds=round(ahead_s, 1)),
        jobs_running=len(load.running),
        workers_alive=load.n_workers,
        audio_seconds_per_second=None if load.rate is None else round(load.rate, 2),
        estimated_wait_s=None if wait_s is None else round(wait_s, 1),
    )
