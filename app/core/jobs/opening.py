"""The jobs of the service that the settings name."""

from redis import Redis

from app.core.jobs.queue import ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.replicas import Replicas
from app.core.settings import ServiceSettings


def open_jobs(settings: ServiceSettings, redis: Redis) -> JobStateMachine:
    """The state machine of the jobs, with its queue, its keys and its replicas. Redis is not asked yet."""
    keys = settings.redis_keys
    return JobStateMachine(
        redis,
        keys,
        queue=ScoreQueue(redis, name=settings.rq_queue_name),
        result_ttl_s=settings.result_ttl_s,
        replicas=Replicas(redis, keys, needed=settings.redis_min_replicas),
    )
