"""Puts the job records, the queue and the stored audio back in step.

The record is the truth. An unfinished job that is neither queued nor run by a live worker is queued again; an id that
RQ still holds after its job finished is dropped; audio that belongs to no unfinished job is deleted. Several
reconcilers may run at once: each repair is a compare-and-set or a unique enqueue.
"""

import logging
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar, cast

from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError
from rq.executions import ExecutionRegistry
from rq.job import Job as RqJob
from rq.worker_registration import clean_worker_registry

from app.core.deployment import Deployment, NotOurStorage
from app.core.jobs.models import FINAL_STATES, Job, Orphan, RunSignal
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import SLICE, UnfinishedJobs, slices
from app.core.lua.script import LuaScript
from app.core.problems import problem_object
from app.core.redis.client import text
from app.core.redis.replicas import unconfirmed_is_kept
from app.core.storage.keys import job_id_of
from app.core.storage.protocol import Storage
from app.core.stored import set_aside
from worker.machine_faults import may_hand_back
from worker.orphan_search import OrphanSearch

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
class Held:
    """Ids that RQ holds beside the queue, and its entries of runs."""

    ids: set[str]
    runs: Sequence[bytes]


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
    _finished: set[bytes] = field(default_factory=set, init=False)
    _sweep: Iterator[str] | None = field(default=None, init=False)
    _next_sweep: float = field(default=float("-inf"), init=False)
    _skipped: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.store, self.queue = self.machine.store, self.machine.queue
        self.deployment = Deployment(self._redis, self.machine.keys, self.storage)
        self.unfinished = UnfinishedJobs(self._redis, self.machine.keys)
        self.search = OrphanSearch(self.unfinished, self.queue)
        self._set_aside_wrong_types = LuaScript(self._redis, "core/lua/set_aside.lua")

    def run(self) -> list[str]:
        """Repair what can be repaired; the ids of the jobs queued again.

        None while Redis is away, or with a storage that is not this deployment's: Redis may be another's as well.

        A repair that fails is logged once, and keeps no other from being made. What is skipped for the same reason is
        logged once, too, and when it is done again.
        """
        try:
            requeued = self._pass()
        except (*AWAY, NotOurStorage) as error:
            self._note_skipped("reconcile passes", error)
            return []
        self._note_skipped("reconcile passes", None)
        return requeued

    def _pass(self) -> list[str]:
        storage_answers = self._storage_answers()
        self._try("keys", self._set_aside_keys)
        self._try("index of unfinished jobs", self.unfinished.restore)
        self._try("counts of the queue", self.machine.check_counts)
        self._try("deadlines", self._stop_overdue)
        held = self._try("what RQ holds", self._held_by_rq)
        requeued = self._try("orphaned jobs", self._requeue_orphaned) or []
        if held:
            self._try("state of RQ", lambda: self._drop_stale_rq_state(held))
        if storage_answers:
            self._try("orphaned audio", self._delete_orphaned_audio)
        return requeued

    def _storage_answers(self) -> bool:
        """Asked at each pass, because audio may be deleted. Raises `NotOurStorage`."""
        try:
            self.deployment.check()
        except NotOurStorage:
            raise
        except OSError as error:
            self._note_skipped("searches for orphaned audio", error)
            return False
        self._note_skipped("searches for orphaned audio", None)
        return True

    def _note_skipped(self, what: str, error: Exception | None) -> None:
        reason = f"{type(error).__name__}: {error}" if error else ""
        if reason and reason != self._skipped.get(what):
            log.warning("%s skipped: %s", what, reason)
        elif not reason and self._skipped.get(what):
            log.info("%s are made again", what)
        self._skipped[what] = reason

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
        types = {**self.machine.keys.shared, **self.queue.shared_types()}
        self._set_aside_wrong_types(list(types), types=list(types.values()))

    def _held_by_rq(self) -> Held:
        """What RQ notes as taken from the queue, as failed, and of runs; so much of each."""
        taken = cast(list[bytes], self._redis.lrange(self._intermediate, 0, SLICE - 1))
        runs = cast(list[bytes], self._redis.zrange(self._started, 0, SLICE - 1))
        failed = cast(list[bytes], self._redis.zrange(self._failed, 0, SLICE - 1))
        return Held(set(map(text, (*taken, *failed))), runs)

    def _requeue_orphaned(self) -> list[str]:
        requeued, candidates, seen = list[str](), dict[str, Orphan](), set[str]()
        deadline = time.monotonic() + self.budget_s
        for ids in self.search.suspects(deadline):
            seen.update(ids)
            done, left = self._requeue(ids)
            requeued += done
            candidates |= left
        rest = [job_id for job_id in self._candidates if job_id not in seen]
        for n_seen, ids in enumerate(slices(rest)):
            if time.monotonic() > deadline:
                candidates |= {job_id: self._candidates[job_id] for job_id in rest[n_seen * SLICE :]}
                break
            done, left = self._requeue(ids)
            requeued += done
            candidates |= left
        self._candidates = candidates
        return requeued

    def _requeue(self, job_ids: Sequence[str]) -> tuple[list[str], dict[str, Orphan]]:
        """Queue again what the pass before has found orphaned too; the ids, and the rest of those that are orphaned."""
        if not job_ids:
            return [], {}
        found = self.unfinished.standings(job_ids, self.queue)
        for job_id, tenant in (found.finished | dict.fromkeys(found.absent, "")).items():
            self._try(job_id, partial(self.machine.forget, job_id, tenant=tenant))
        self._forget(found.absent)
        self.search.unreadable.difference_update(job_ids)
        self.search.unreadable.update(found.unreadable)
        # Of what RQ keeps no hash it has nothing to run, wherever the id is.
        listed = self.search.is_listed([orphan.id for orphan in found.orphaned if orphan.enqueued_at])
        orphans = {orphan.id: orphan for orphan in found.orphaned if orphan.id not in listed}
        spent = [job_id for job_id, orphan in orphans.items() if orphan.attempts_used >= self.max_attempts]
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

    def _drop_stale_rq_state(self, held: Held) -> None:
        """Drop what RQ keeps of runs that have ended: it has no maintenance of its own here."""
        runs = {entry: text(entry).partition(":")[0] for entry in held.runs}
        # Looked for after it was held: what is not unfinished by now has finished.
        unfinished = self.unfinished.among({*held.ids, *runs.values()})
        self._forget(held.ids - unfinished)
        for job_id in held.ids & self.search.listed:
            self._redis.lrem(self._intermediate, 0, job_id)
        # By its job alone, not by RQ's time, which is of a worker's clock. Runs of a job that is not finished are kept,
        # those that broke off, too: later they lead to what a worker left that died at the end.
        finished = {entry for entry, job_id in runs.items() if job_id not in unfinished}
        seen_twice, self._finished = finished & self._finished, finished  # its worker may be about to drop it
        self._forget({runs[entry] for entry in seen_twice})
        if seen_twice:
            self._redis.zrem(self._started, *seen_twice)
        if held.ids:
            self._redis.zrem(self._failed, *held.ids)
        clean_worker_registry(self.queue.rq)

    def _delete_orphaned_audio(self) -> None:
        """Now and then, because every upload in the storage is looked at; when that takes long, in several passes."""
        if self._sweep is None and time.monotonic() < self._next_sweep:
            return
        if self._sweep is None:
            self._next_sweep = time.monotonic() + self.storage.sweep_every_s
            self._sweep = self.storage.orphans(older_than_s=self.orphan_grace_s)
        deadline = time.monotonic() + self.budget_s
        while keys := list(islice(self._sweep, SLICE)):
            self._delete_audio_without_a_job({key: job_id_of(key) for key in keys})
            if time.monotonic() > deadline:
                return
        self._sweep = None

    def _delete_audio_without_a_job(self, jobs: Mapping[str, str]) -> None:
        """`jobs` has the id of the job that each key was made for."""
        unfinished = self.unfinished.among(list(jobs.values()))
        others = {key: job_id for key, job_id in jobs.items() if job_id not in unfinished}
        records = self.store.get_fields(others.values(), ["id", "status"])
        for key, record in zip(others, records, strict=True):
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
