"""Jobs that are queued or running, as the reconciler looks at them."""

from typing import cast

from redis import Redis

from app.core import redis_keys
from app.core.jobs.models import Job, JobState
from app.core.jobs.store import JobStore
from app.core.redis_client import text


class UnfinishedJobs:
    """Finds the unfinished jobs, and those among them that something must be done about. Every method is blocking."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.store = JobStore(redis)

    def ids(self) -> list[str]:
        """Ids of all unfinished jobs, oldest first."""
        return [text(job_id) for job_id in cast(list[bytes], self.redis.zrange(redis_keys.UNFINISHED, 0, -1))]

    def overdue(self) -> list[Job]:
        """Queued jobs whose deadline has passed."""
        seconds, _ = self.redis.time()
        ids = cast(list[bytes], self.redis.zrange(redis_keys.DEADLINES, 0, seconds, byscore=True))
        jobs = self.store.get_many(map(text, ids))
        return [job for job in jobs if job and job.status is JobState.QUEUED]

    def is_orphaned(self, job: Job) -> bool:
        """Whether no live worker runs the job: it is queued, or its worker's lease is over."""
        seconds, microseconds = self.redis.time()
        return job.status is JobState.QUEUED or job.lease_until < seconds + microseconds / 1e6

    def forget(self, job_id: str) -> None:
        """Drop an id without a record from the indexes of unfinished jobs."""
        for index in (redis_keys.UNFINISHED, redis_keys.WAITING, redis_keys.DEADLINES):
            self.redis.zrem(index, job_id)
        self.redis.hdel(redis_keys.RUNNING, job_id)
