"""Job records as clients may read them: an end is told once no failover can undo it."""

from collections.abc import Iterable

from redis import Redis

from app.core.jobs.models import Job
from app.core.jobs.store import JobStore
from app.core.lua.script import LuaScript
from app.core.redis.keys import RedisKeys
from app.core.redis.replicas import Replicas


class ConfirmedJobs(JobStore):
    """Reads job records; an end that too few replicas are known to have is confirmed first, and that is noted.

    A worker's step is confirmed after it was done, so that an end can be read before. If the master is lost at that
    moment the step is done again elsewhere, and the job ends at another time. Nothing is asked where no replica is
    needed, nor for an end that was confirmed before.
    Each method raises `NotReplicated` for an end that is not confirmed in time.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, replicas: Replicas) -> None:
        super().__init__(redis, keys)
        self.replicas = replicas
        self._note = LuaScript(redis, "api/jobs/lua/confirm.lua")

    def get(self, job_id: str) -> Job | None:
        return self._confirmed([super().get(job_id)])[0]

    def get_many(self, job_ids: Iterable[str]) -> list[Job | None]:
        return self._confirmed(super().get_many(job_ids))

    def _confirmed(self, jobs: list[Job | None]) -> list[Job | None]:
        if not any(self._is_new_end(job) for job in jobs):
            return jobs
        with self.replicas.confirmed() as client:
            store = JobStore(client, self.keys)  # one read at a time: a pipeline would take another connection
            jobs = [store.get(job.id) if job and self._is_new_end(job) else job for job in jobs]
        for job in jobs:
            if job and self._is_new_end(job):
                self._note([self.keys.record(job.id)], finished_at=job.finished_at)
        return jobs

    def _is_new_end(self, job: Job | None) -> bool:
        return bool(self.replicas.needed and job and job.status.done and not job.end_confirmed)
