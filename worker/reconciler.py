"""Puts the job records, the queue and the stored audio back in step.

The record is the truth. An unfinished job that is neither queued nor run by a live worker is queued again; an id that
RQ still holds after its job finished is dropped; audio that belongs to no unfinished job is deleted. Several
reconcilers may run at once: each repair is a compare-and-set or a unique enqueue.
"""

import logging
import time
from collections.abc import Container
from dataclasses import dataclass, field
from typing import cast

from redis import Redis
from redis.exceptions import RedisError
from rq.executions import ExecutionRegistry
from rq.job import Job as RqJob
from rq.worker_registration import clean_worker_registry

from app.core.jobs.models import Job, RunSignal
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.problems import problem_object
from app.core.redis_client import text
from app.core.storage.local import AudioStorage

log = logging.getLogger(__name__)

#: Audio younger than this may belong to an upload whose record is being written.
ORPHAN_GRACE_S = 3600.0


@dataclass
class Reconciler:
    """`run()` makes one pass. A job is repaired when two passes in a row find it orphaned.

    One pass is enough when its worker is among `ended`: processes that are known to be gone.
    """

    machine: JobStateMachine
    storage: AudioStorage
    max_attempts: int
    orphan_grace_s: float = ORPHAN_GRACE_S
    ended: Container[str] = ()
    _orphan_candidates: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.store, self.queue = self.machine.store, self.machine.queue
        self.unfinished = UnfinishedJobs(self._redis)

    def run(self) -> list[str]:
        """Repair what can be repaired; the ids of the jobs queued again, none while Redis is away."""
        try:
            return self._pass()
        except RedisError as error:
            log.warning("reconcile pass skipped: %s: %s", type(error).__name__, error)
            return []

    def _pass(self) -> list[str]:
        self._stop_overdue()
        self.machine.check_counts()
        # Read before the unfinished jobs: whatever RQ holds now and is not unfinished then has finished.
        held_by_rq = self._ids_held_by_rq()
        unfinished_ids = self.unfinished.ids()
        queued = self._queued()
        orphaned = {job_id for job_id in set(unfinished_ids) - queued if self._is_orphaned(job_id)}
        repaired = [
            job_id for job_id in unfinished_ids if job_id in orphaned & self._orphan_candidates and self._repair(job_id)
        ]
        self._orphan_candidates = orphaned - set(repaired)
        self._drop_stale_rq_state(held_by_rq, unfinished_ids=set(unfinished_ids), queued=queued)
        self._delete_orphaned_audio()
        return repaired

    def _queued(self) -> set[str]:
        return {text(job_id) for job_id in self._redis.lrange(self.queue.rq.key, 0, -1) if job_id.isascii()}

    def _ids_held_by_rq(self) -> set[str]:
        """Ids that RQ notes as taken from the queue, those of runs that broke off among them."""
        taken = cast(list[bytes], self._redis.lrange(self._intermediate, 0, -1))
        broken_off = cast(list[bytes], self._redis.zrangebyscore(self._started, 0, time.time()))
        return {entry.decode(errors="replace").partition(":")[0] for entry in (*taken, *broken_off)}

    def _is_orphaned(self, job_id: str) -> bool:
        job = self.store.get(job_id)
        if job is None:
            self.unfinished.forget(job_id)
            return False
        return self._requeued(job) or self.unfinished.is_orphaned(job)

    def _requeued(self, job: Job) -> bool:
        """Take a job back from a worker that is known to be gone."""
        if not (job.worker and job.worker in self.ended and self.machine.requeue(job)):
            return False
        self._orphan_candidates.add(job.id)
        return True

    def _repair(self, job_id: str) -> bool:
        job = self.store.get(job_id)
        if job is None or not self.unfinished.is_orphaned(job):
            return False
        if job.attempts_used >= self.max_attempts:
            self._give_up(job)
            return False
        self._forget(job_id)
        log.warning("orphaned job requeued", extra={"job_id": job_id, "attempt": job.attempt})
        return self.machine.enqueue(job)

    def _forget(self, job_id: str) -> None:
        """Delete what RQ keeps of a run: the id can be queued again, or has finished."""
        self._redis.delete(RqJob.key_for(job_id), ExecutionRegistry(job_id, connection=self._redis).key)
        self._redis.lrem(self._intermediate, 0, job_id)

    def _give_up(self, job: Job) -> None:
        detail = f"Each of {job.attempts_used} runs ended with its worker."
        error = problem_object("worker_lost", detail, attempts=job.attempt, request_id=job.request_id)
        if self.machine.fail(job, error=error):
            self.storage.delete(job.storage_key)

    def _stop_overdue(self) -> None:
        """A worker drops an overdue job when it comes to it; a long queue must not make that late."""
        for job in self.unfinished.overdue():
            if self.machine.stop(job, reason=RunSignal.DEADLINE_EXCEEDED):
                self.storage.delete(job.storage_key)

    def _drop_stale_rq_state(self, held_by_rq: set[str], *, unfinished_ids: set[str], queued: set[str]) -> None:
        """Drop what RQ keeps of runs that have ended: it has no maintenance of its own here."""
        for job_id in held_by_rq - unfinished_ids:
            self._forget(job_id)
        for job_id in held_by_rq & queued:
            self._redis.lrem(self._intermediate, 0, job_id)
        self._redis.zremrangebyscore(self._started, 0, time.time())
        clean_worker_registry(self.queue.rq)

    def _delete_orphaned_audio(self) -> None:
        for key in self.storage.orphans(older_than_s=self.orphan_grace_s):
            job = self.store.get(key)
            if job is None or job.status.done:
                self.storage.delete(key)

    @property
    def _intermediate(self) -> str:
        return str(self.queue.rq.intermediate_queue_key)

    @property
    def _started(self) -> str:
        return str(self.queue.rq.started_job_registry.key)

    @property
    def _redis(self) -> Redis:
        return self.machine.redis
