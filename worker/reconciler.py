"""Puts the job records, the queue and the stored audio back in step.

The record is the truth. An unfinished job that is neither queued nor run by a live worker is queued again; an id that
RQ still holds after its job finished is dropped; audio that belongs to no unfinished job is deleted. Several
reconcilers may run at once: each repair is a compare-and-set or a unique enqueue.
"""

import logging
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError
from rq.executions import ExecutionRegistry
from rq.job import Job as RqJob
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY, clean_worker_registry

from app.core.jobs.models import FINAL_STATES, Job, Orphan, RunSignal
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import SLICE, Standings, UnfinishedJobs, slices
from app.core.lua.script import LuaScript
from app.core.problems import problem_object
from app.core.redis.replicas import unconfirmed_is_kept
from app.core.redis_client import text
from app.core.storage.keys import job_id_of
from app.core.storage.protocol import Storage
from app.core.stored import set_aside
from worker.machine_faults import may_hand_back

log = logging.getLogger(__name__)

#: Audio younger than this may belong to an upload whose record is being written.
ORPHAN_GRACE_S = 3600.0
#: How long a repair may take in one pass, before the others have their turn; the next pass goes on.
BUDGET_S = 2.0
#: Ids of a log line about many jobs.
SHOWN = 10
#: Errors after which nothing else can be repaired either.
AWAY = (ConnectionError, TimeoutError)

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """Ids that RQ holds beside the queue, of all unfinished jobs, those that wait in their order, and in the queue.

    `at`: when it was taken, in whole seconds of Redis's clock.
    """

    at: int
    held_by_rq: set[str]
    unfinished: list[str]
    queued: set[str]


@dataclass
class Reconciler:
    """`run()` makes one pass. A job is repaired when two passes in a row find it orphaned.

    One pass is enough when its worker is among `ended`: processes that are known to be gone, and whether the kernel
    ended them for lack of memory.
    """

    machine: JobStateMachine
    storage: Storage
    max_attempts: int
    orphan_grace_s: float = ORPHAN_GRACE_S
    ended: Mapping[str, bool] = field(default_factory=dict)
    budget_s: float = BUDGET_S
    _candidates: dict[str, Orphan] = field(default_factory=dict, init=False)
    _next_sweep: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.store, self.queue = self.machine.store, self.machine.queue
        self.unfinished = UnfinishedJobs(self._redis, self.machine.keys)
        self._set_aside_wrong_types = LuaScript(self._redis, "core/lua/set_aside.lua")

    def run(self) -> list[str]:
        """Repair what can be repaired; the ids of the jobs queued again, none while Redis is away.

        A repair that fails is logged once, and keeps no other from being made.
        """
        try:
            return self._pass()
        except AWAY as error:
            log.warning("reconcile pass skipped: %s: %s", type(error).__name__, error)
            return []

    def _pass(self) -> list[str]:
        self._try("keys", self._set_aside_keys)
        self._try("index of unfinished jobs", self.unfinished.restore)
        self._try("counts of the queue", self.machine.check_counts)
        self._try("deadlines", self._stop_overdue)
        snapshot = self._try("queue", self._snapshot)
        if snapshot is None:
            return []
        requeued = self._try("orphaned jobs", lambda: self._requeue_orphaned(snapshot)) or []
        self._try("state of RQ", lambda: self._drop_stale_rq_state(snapshot))
        self._try("orphaned audio", lambda: self._delete_orphaned_audio(snapshot))
        return requeued

    def _try(self, what: str, repair: Callable[[], T]) -> T | None:
        try:
            return repair()
        except AWAY:
            raise
        except Exception as error:
            # Not the text of the error, which may show values; where it was raised instead.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            set_aside(what, f"{type(error).__name__} in {frame.name}, line {frame.lineno}")
            return None

    def _set_aside_keys(self) -> None:
        rq = self.queue.rq
        types = {
            **self.machine.keys.shared,
            rq.redis_queues_keys: "set",
            rq.key: "list",
            self._intermediate: "list",
            self._started: "zset",
            self._failed: "zset",
            WORKERS_BY_QUEUE_KEY % rq.name: "set",
            REDIS_WORKER_KEYS: "set",
        }
        self._set_aside_wrong_types(list(types), types=list(types.values()))

    def _snapshot(self) -> Snapshot:
        # In this order: whatever RQ holds now and is not unfinished then has finished.
        at, _ = self._redis.time()
        held_by_rq = self._ids_held_by_rq(at)
        unfinished = self.unfinished.ids()
        queued = {text(job_id) for job_id in self._redis.lrange(self.queue.rq.key, 0, -1)}
        return Snapshot(at, held_by_rq, unfinished, queued)

    def _ids_held_by_rq(self, at: int) -> set[str]:
        """Ids that RQ notes as taken from the queue, of runs that broke off, and of those that RQ takes for failed."""
        taken = cast(list[bytes], self._redis.lrange(self._intermediate, 0, -1))
        broken_off = cast(list[bytes], self._redis.zrangebyscore(self._started, 0, at))
        failed = cast(list[bytes], self._redis.zrange(self._failed, 0, -1))
        return {text(entry).partition(":")[0] for entry in (*taken, *broken_off, *failed)}

    def _requeue_orphaned(self, snapshot: Snapshot) -> list[str]:
        requeued, candidates = list[str](), dict[str, Orphan]()
        missing = [job_id for job_id in snapshot.unfinished if job_id not in snapshot.queued]
        deadline = time.monotonic() + self.budget_s
        for n_seen, ids in enumerate(slices(missing), 1):
            done, left = self._requeue(self.unfinished.standings(ids, self.queue))
            requeued += done
            candidates |= left
            if time.monotonic() > deadline:
                rest = missing[n_seen * SLICE :]
                candidates |= {job_id: self._candidates[job_id] for job_id in rest if job_id in self._candidates}
                break
        self._candidates = candidates
        return requeued

    def _requeue(self, found: Standings) -> tuple[list[str], dict[str, Orphan]]:
        """Queue again what the pass before has found orphaned too; the ids, and the rest of those that are orphaned."""
        for job_id, tenant in (found.finished | dict.fromkeys(found.absent, "")).items():
            self._try(job_id, partial(self.machine.forget, job_id, tenant=tenant))
        self._forget(found.absent)
        orphans = {orphan.id: orphan for orphan in found.orphaned}
        spent = [orphan.id for orphan in found.orphaned if orphan.attempts_used >= self.max_attempts]
        for job_id in spent:
            if job_id in self._candidates:
                self._try(job_id, partial(self._give_up, job_id))
        # As the pass before has seen them: another reconciler may have queued them since.
        due = [self._candidates[job_id] for job_id in orphans if job_id in self._candidates and job_id not in spent]
        due += self._taken_back(found.workers)
        done = self._enqueue(due) if due else []
        return done, {job_id: orphan for job_id, orphan in orphans.items() if job_id not in set(done)}

    def _enqueue(self, due: Sequence[Orphan]) -> list[str]:
        done = self.machine.enqueue(due)
        self._forget_runs(done)
        if done:
            log.warning("orphaned jobs requeued", extra={"n_jobs": len(done), "job_ids": done[:SHOWN]})
        return done

    def _taken_back(self, workers: Mapping[str, str]) -> list[Orphan]:
        """Take jobs back from workers that are known to be gone."""
        ended = [job_id for job_id, worker in workers.items() if worker in self.ended]
        jobs = [job for job in self.store.get_many(ended) if job and job.worker in self.ended]
        taken = [job for job in jobs if self._try(job.id, partial(self._take_back, job))]
        enqueued_at = self.queue.enqueued_at([job.id for job in taken])
        return [Orphan(job.id, job.tenant, job.attempts_used, at) for job, at in zip(taken, enqueued_at, strict=True)]

    def _take_back(self, job: Job) -> bool:
        machine_fault = self.ended[job.worker or ""] and may_hand_back(job)
        return self.machine.requeue(job, counted=not machine_fault, machine_fault=machine_fault)

    def _forget(self, job_ids: Collection[str]) -> None:
        """Delete all that RQ keeps of jobs that have finished, or have no record."""
        if job_ids:
            self._redis.delete(*map(RqJob.key_for, job_ids))
        self._forget_runs(job_ids)

    def _forget_runs(self, job_ids: Collection[str]) -> None:
        """Delete what RQ keeps of runs that have ended."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.delete(ExecutionRegistry(job_id, connection=self._redis).key)
                pipe.lrem(self._intermediate, 0, job_id)
            pipe.execute()

    def _give_up(self, job_id: str) -> None:
        job = self.store.get(job_id)
        if job is None:
            return
        detail = f"Each of {job.attempts_used} runs ended with its worker."
        error = problem_object("worker_lost", detail, attempts=job.attempt, request_id=job.request_id)
        with unconfirmed_is_kept(job_id):
            if self.machine.fail(job, error=error):
                self.storage.delete(job.storage_key)

    def _stop_overdue(self) -> None:
        """A worker drops an overdue job when it comes to it; a long queue must not make that late."""
        deadline = time.monotonic() + self.budget_s
        for job in self.unfinished.overdue():
            self._try(job.id, partial(self._stop, job))
            if time.monotonic() > deadline:
                break

    def _stop(self, job: Job) -> None:
        with unconfirmed_is_kept(job.id):
            if self.machine.stop(job, reason=RunSignal.DEADLINE_EXCEEDED):
                self.storage.delete(job.storage_key)

    def _drop_stale_rq_state(self, snapshot: Snapshot) -> None:
        """Drop what RQ keeps of runs that have ended: it has no maintenance of its own here."""
        self._forget(snapshot.held_by_rq - set(snapshot.unfinished))
        for job_id in snapshot.held_by_rq & snapshot.queued:
            self._redis.lrem(self._intermediate, 0, job_id)
        # Not by the time that it is now: what broke off since is in no snapshot yet.
        self._redis.zremrangebyscore(self._started, 0, snapshot.at)
        if snapshot.held_by_rq:
            self._redis.zrem(self._failed, *snapshot.held_by_rq)
        clean_worker_registry(self.queue.rq)

    def _delete_orphaned_audio(self, snapshot: Snapshot) -> None:
        """Now and then, because every upload in the storage is looked at."""
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + self.storage.sweep_every_s
        unfinished = set(snapshot.unfinished)
        old = self.storage.orphans(older_than_s=self.orphan_grace_s)
        for keys in slices([key for key in old if job_id_of(key) not in unfinished]):
            job_ids = [job_id_of(key) for key in keys]
            for key, record in zip(keys, self.store.get_fields(job_ids, ["id", "status"]), strict=True):
                if record is None or record["status"] in FINAL_STATES:
                    self._try(key, partial(self.storage.delete, key))

    @property
    def _intermediate(self) -> str:
        return str(self.queue.rq.intermediate_queue_key)

    @property
    def _started(self) -> str:
        return str(self.queue.rq.started_job_registry.key)

    @property
    def _failed(self) -> str:
        return str(self.queue.rq.failed_job_registry.key)

    @property
    def _redis(self) -> Redis:
        return self.machine.redis
