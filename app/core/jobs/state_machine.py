"""The job state machine: every change of a job record, each one atomic step inside Redis.

                         start
    create ──► queued ───────────► running ──► succeeded    succeed
               │ │  ◄───────────── │ │ │ ▲
               │ │     requeue     │ │ └─┘ start, when the lease of a dead run is over
               │ └─────────────────┼─┴───► failed           fail
               └───────────────────┴─────► canceled         cancel while queued, stop

Each step compares state and attempt first. So a terminal state never changes, and a run that lost its job to a later
attempt loses every write. A step that is repeated because its answer was lost counts once. `create` also queues the
job for RQ; `purge` deletes a job in any state. Nothing here touches audio.

A job with a `source` is queued, too, and waits for its track to be fetched: RQ is given it by `end_fetch`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from redis import Redis

from app.core.callers import ANONYMOUS_TENANT
from app.core.jobs.backlog import BacklogLimits
from app.core.jobs.models import (
    MAX_BATCH_ITEMS,
    AttemptsExhausted,
    BatchFull,
    FetchesExhausted,
    Job,
    JobExists,
    JobState,
    ModelUnavailable,
    Orphan,
    Overdue,
    QueueFull,
    QueuePosition,
    QueueShareExceeded,
    RunSignal,
    TooManyJobsInFlight,
    UnknownBatch,
    stored_fields,
)
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.lua.script import LuaScript
from app.core.redis.client import text
from app.core.redis.keys import RedisKeys, indexes
from app.core.redis.replicas import Replicas
from app.core.webhooks.outbox import OUTBOX_LUA

#: Why `create.lua` made no job.
CREATE_ERRORS: Mapping[str, type[Exception]] = {
    "too_many_in_flight": TooManyJobsInFlight,
    "queue_full": QueueFull,
    "queue_share_exceeded": QueueShareExceeded,
    "unknown_batch": UnknownBatch,
    "batch_full": BatchFull,
    "exists": JobExists,
}

#: Why `start.lua` began no run, where that is the end of the job: who asked ends it, and deletes its audio.
START_ERRORS: Mapping[str, type[Exception]] = {
    "attempts_exhausted": AttemptsExhausted,
    "model_unavailable": ModelUnavailable,
    "overdue": Overdue,
}

STEPS = (
    "create",
    "start",
    "renew",
    "report",
    "finish",
    "requeue",
    "enqueue",
    "cancel",
    "purge",
    "forget",
    "check_counts",
    "fetches/next",
    "fetches/begin",
    "fetches/renew",
    "fetches/later",
    "fetches/end",
)

#: What precedes each step.
SHARED = (OUTBOX_LUA, *(f"core/jobs/lua/shared/{name}.lua" for name in ("batch", "common", "queue", "fetch")))
#: Steps that a run takes again and again, and that end nothing: Redis makes the functions of a script anew each time.
OF_RUNS = {"renew", "report"}
SHARED_OF_RUNS = ("core/jobs/lua/shared/common.lua",)

#: What clients are told of, or what lets audio be deleted: it counts once enough replicas have it.
CONFIRMED_STEPS = {"create", "finish", "cancel", "purge"}

#: For a step that is of no job.
NO_JOB = Job(id="", storage_key="")


class JobStateMachine:
    """Makes jobs and moves them from state to state. Every method is blocking and atomic.

    `result_ttl_s` is how long a finished job is kept. What makes, ends, cancels or deletes a job raises `NotReplicated`
    after it was done, where `replicas` ask for some and too few have it.
    """

    def __init__(
        self,
        redis: Redis,
        keys: RedisKeys,
        *,
        queue: ScoreQueue,
        result_ttl_s: int,
        replicas: Replicas | None = None,
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.queue = queue
        self.store = JobStore(redis, keys)
        self.result_ttl_s = result_ttl_s
        self.replicas = replicas or Replicas(redis, keys)
        self.scripts = {
            step: LuaScript(redis, *(SHARED_OF_RUNS if step in OF_RUNS else SHARED), f"core/jobs/lua/{step}.lua")
            for step in STEPS
        }

    def create(
        self,
        job: Job,
        *,
        cancel_after_s: float | None = None,
        max_in_flight: int | None = None,
        backlog: BacklogLimits | None = None,
        max_unfetched: int | None = None,
        indexed_metadata: Collection[str] = (),
        embedding: Json | None = None,
    ) -> tuple[Job, QueuePosition | None]:
        """Write a new record and queue it; the job with its times, and where it stands.

        A job that is finished already is only written, with the `embedding` of its track if it has one. One with a
        `source` waits to be fetched; a test job is given to no queue of RQ. With `cancel_after_s` the deadline is so
        long after the creation. Lists find the job by those keys of its metadata that are indexed.
        Raises `TooManyJobsInFlight`, `QueueFull` or `QueueShareExceeded` when a limit is given and reached,
        `UnknownBatch` or `BatchFull` for a batch that cannot be joined, `JobExists` when the id is taken; then nothing
        was written.
        """
        answer = self._run(
            "create",
            job,
            **self._new(job, indexed_metadata),
            cancel_after_s=cancel_after_s,
            max_in_flight=max_in_flight,
            max_unfetched=max_unfetched,
            max_backlog_s=backlog and backlog.max_audio_s,
            tenant_share=backlog and backlog.tenant_share,
            **self._embedding(job, embedding),
        )
        if error := CREATE_ERRORS.get(text(answer[0])):
            raise error(job.id)
        return _created(job, answer)

    def create_in_order(
        self, jobs: Sequence[Job], *, first_index: int, indexed_metadata: Collection[str] = (), **limits: Any
    ) -> list[Job | Exception]:
        """Create the next jobs of a batch in one round trip, with limits as of `create`, the first at an index in it.

        The jobs, up to the first that is refused: an error as of `create` is in its place. None where the batch has
        another number of items by now.
        """
        with self.replicas.confirmed() as client, client.pipeline(transaction=False) as pipe:
            place: Json = {"batch_index": first_index}
            for job in jobs:  # where one is refused, all that follow are
                self._call("create", job, pipe, **self._new(job, indexed_metadata), **place, **limits)
                place = {"after": job.id}
            answers = pipe.execute()
        results = list[Job | Exception]()
        for job, answer in zip(jobs, answers, strict=True):
            if text(answer[0]) == "out_of_order":
                break
            error = CREATE_ERRORS.get(text(answer[0]))
            results.append(error(job.id) if error else _created(job, answer)[0])
        return results

    def _new(self, job: Job, indexed_metadata: Collection[str]) -> Json:
        """The arguments of `create.lua` that are the job's own."""
        return {
            "fields": job.to_fields(),
            "rq_fields": self.queue.job_fields(job.id) if job.livemode else None,
            "record_prefix": self.keys.record(""),
            "joins_batch": job.batch_id is not None,
            "max_batch_items": MAX_BATCH_ITEMS,
            "metadata_indexes": self._metadata_indexes(job, indexed_metadata),
        }

    def start(
        self, job_id: str, *, max_attempts: int, lease_s: float, worker: str = "", model_version: str = ""
    ) -> Job | None:
        """Begin a run: the next attempt's record, or None when there is nothing to do.

        Nothing is to do for a job that is finished, unknown or run by a live worker. A running job whose lease
        is over is started again; the older run, should it still live, then loses every write. A `worker` that runs the
        job already is given the same run again.
        A job that asks for another model than `model_version` is left to the workers of that one.
        Raises `AttemptsExhausted` when `max_attempts` runs that count were begun already, `ModelUnavailable` for a job
        that no worker of its model took within a day, `Overdue` for one whose deadline has passed.
        """
        job = self.store.get(job_id)
        if job is None:
            return None
        fields = stored_fields({"worker": worker})
        limits: dict[str, Any] = {"max_attempts": max_attempts, "lease_s": lease_s, "model_version": model_version}
        answer, *record = self._run("start", job, fields=fields, **limits)
        if error := START_ERRORS.get(text(answer)):
            raise error(job_id)
        # As the step left it: read afterwards, it could be the record of a later run, with that run's number.
        return Job.from_fields(dict(zip(record[::2], record[1::2], strict=True))) if record else None

    def renew(self, job: Job, *, lease_s: float) -> bool:
        """Keep a run's job for another `lease_s`; False when the run has lost its job."""
        return bool(self._run("renew", job, attempt=job.attempt, lease_s=lease_s))

    def report(self, job: Job, **changes: Any) -> RunSignal:
        """Update fields of a run in progress; whether to carry on."""
        answer = self._run("report", job, attempt=job.attempt, fields=stored_fields(changes))
        return RunSignal(text(answer))

    def succeed(self, job: Job, *, embedding: Json | None = None, **changes: Any) -> bool:
        """End a run with its result, and the embedding of its track if one is kept; False when it has lost its job."""
        version, sha256 = (changes.get("model") or {}).get("version"), job.audio.get("sha256")
        more_keys = [self.keys.cached_result(job.tenant, sha256, version)] if sha256 and version else []
        kept = self._embedding(job, embedding)
        return self._finish(job, JobState.SUCCEEDED, changes, more_keys=more_keys, **kept)

    def fail(self, job: Job, *, error: Json, **changes: Any) -> bool:
        """End a job, running or still queued, with a problem object; False when it has moved on."""
        return self._finish(job, JobState.FAILED, {"error": error, **changes}, allow_queued=True)

    def stop(self, job: Job, *, reason: RunSignal, **changes: Any) -> bool:
        """End a job that was asked to stop or is overdue; False when it has moved on."""
        return self._finish(job, JobState.CANCELED, {"status_reason": reason, **changes}, allow_queued=True)

    def requeue(self, job: Job, *, counted: bool = True, machine_fault: bool = False) -> bool:
        """Put the job of a run back to `queued`, for the reconciler to give to RQ; False when the run has lost its job.

        A run that is not `counted` leaves the job as many attempts as before. After a `machine_fault`, whose first time
        is noted, the job waits behind the others of its tenant, which may be spared what it met; else before all.
        """
        return bool(self._run("requeue", job, attempt=job.attempt, counted=counted, machine_fault=machine_fault))

    def enqueue(self, orphans: Sequence[Orphan]) -> list[str]:
        """Give unfinished jobs to RQ again, each at its place in the queue; the ids of those that it had not.

        One step for all: a few hundred at a time keep Redis for some 20 ms from its other clients.
        """
        jobs = [{"id": job.id, "tenant": job.tenant, "enqueued_at": job.enqueued_at} for job in orphans]
        prefixes = {"record_prefix": self.keys.record(""), "rq_job_prefix": self.queue.keys("")[-1]}
        return [
            text(job_id)
            for job_id in self._run("enqueue", NO_JOB, jobs=jobs, rq_fields=self.queue.job_fields(""), **prefixes)
        ]

    def next_fetch(self, *, max_fetches: int, lease_s: float, backlog: BacklogLimits) -> Job | None:
        """Take the job whose track is to be fetched next, for `lease_s`; None when there is none, or no room for it.

        It is begun by `begin_fetch`; one of which nothing can be read is left to the reconciler.
        """
        found = self._run(
            "fetches/next",
            NO_JOB,
            max_fetches=max_fetches,
            lease_s=lease_s,
            only_tenant=ANONYMOUS_TENANT,
            record_prefix=self.keys.record(""),
            max_backlog_s=backlog.max_audio_s,
            tenant_share=backlog.tenant_share,
        )
        return replace(NO_JOB, id=text(found[0]), tenant=text(found[1])) if found else None

    def begin_fetch(self, job_id: str, *, tenant: str, max_fetches_of_job: int) -> Job | None:
        """Begin a fetch: the record with the fetch's number, or None when there is nothing to fetch.

        Raises `FetchesExhausted` when so many that count were begun already.
        """
        job = self.store.get(job_id)
        if job is None:
            self.forget(job_id, tenant=tenant)
            return None
        answer, *record = self._run("fetches/begin", job, max_fetches_of_job=max_fetches_of_job)
        if text(answer) == "fetches_exhausted":
            raise FetchesExhausted(job_id)
        return Job.from_fields(dict(zip(record[::2], record[1::2], strict=True))) if record else None

    def renew_fetch(self, job: Job, *, lease_s: float) -> bool:
        """Keep a fetch's job for another `lease_s`; False when the fetch has lost its job."""
        return bool(self._run("fetches/renew", job, fetch=job.fetch, lease_s=lease_s))

    def fetch_later(self, job: Job, *, pause_s: float, counted: bool = True) -> bool:
        """Give up a fetch, and have another one begin after a pause; False when the fetch has lost its job.

        One that is not `counted` leaves the job as many fetches as before.
        """
        return bool(self._run("fetches/later", job, fetch=job.fetch, pause_s=pause_s, counted=counted))

    def end_fetch(self, job: Job, **changes: Any) -> bool:
        """Queue a job whose track was fetched to a `storage_key` of its own; False when the fetch has lost its job."""
        fields, rq_fields = stored_fields(changes), self.queue.job_fields(job.id)
        prefix = self.keys.record("")
        return bool(
            self._run("fetches/end", job, fetch=job.fetch, fields=fields, rq_fields=rq_fields, record_prefix=prefix)
        )

    def fail_fetch(self, job: Job, *, error: Json) -> bool:
        """End a job whose track cannot be fetched; False when the fetch has lost its job."""
        return self._finish(job, JobState.FAILED, {"error": error}, allow_queued=True, fetch=job.fetch)

    def succeed_fetch(self, job: Job, *, embedding: Json | None = None, **changes: Any) -> bool:
        """End a job whose fetched track has known scores; False when the fetch has lost its job."""
        kept = self._embedding(job, embedding)
        return self._finish(job, JobState.SUCCEEDED, changes, allow_queued=True, fetch=job.fetch, **kept)

    def forget(self, job_id: str, *, tenant: str = "") -> None:
        """Take the id of a job that is finished, or has no record, out of the indexes of unfinished jobs."""
        self._run("forget", Job(id=job_id, storage_key=job_id, tenant=tenant))

    def check_counts(self) -> None:
        """Count anew what waits, if the counts and the queue disagree: an older version, say, does not count."""
        self._run("check_counts", NO_JOB, record_prefix=self.keys.record(""))

    def cancel(self, job: Job) -> None:
        """End a queued job and take it out of the queue; ask a running one to stop. Leave a finished one as it is."""
        self._run("cancel", job)

    def cancel_all(self, jobs: Iterable[Job]) -> None:
        """The same for several jobs: in one round trip, or one after the other and confirmed once."""
        if self.replicas.needed:  # a pipeline has another connection than the one that is confirmed
            with self.replicas.confirmed() as client:
                for job in jobs:
                    self._call("cancel", job, client)
        else:
            with self.redis.pipeline(transaction=False) as pipe:
                for job in jobs:
                    self._call("cancel", job, pipe)
                pipe.execute()

    def purge(self, job: Job) -> None:
        """Delete a job in any state: a run in progress finds that it has lost it. Only a tombstone stays.

        With it go the stored responses in which it is, and what later requests would find its scores by.
        """
        pattern = self.keys.cached_result(job.tenant, "%s", "%s")
        indexes, embedding_key = self._metadata_indexes(job, job.metadata), self.keys.embedding(job.id)
        self._run("purge", job, cached_result_pattern=pattern, metadata_indexes=indexes, embedding_key=embedding_key)

    def _metadata_indexes(self, job: Job, names: Collection[str]) -> list[str]:
        return [self.keys.by_metadata(job.tenant, *pair) for pair in job.metadata.items() if pair[0] in names]

    def _embedding(self, job: Job, embedding: Json | None) -> Json:
        """The arguments of a step that keeps the embedding of a job's track."""
        if embedding is None:
            return {}
        return {"embedding_key": self.keys.embedding(job.id), "embedding": json.dumps(embedding, allow_nan=False)}

    def _finish(
        self,
        job: Job,
        state: JobState,
        changes: Mapping[str, Any],
        *,
        allow_queued: bool = False,
        fetch: int | None = None,
        more_keys: Sequence[str] = (),
        **more: Any,
    ) -> bool:
        fields = stored_fields(changes)
        arguments = {"attempt": job.attempt, "state": state, "allow_queued": allow_queued, "fields": fields, **more}
        return bool(self._run("finish", job, more_keys=more_keys, fetch=fetch, **arguments))

    def _run(self, step: str, job: Job, *, more_keys: Sequence[str] = (), **arguments: Any) -> Any:
        with self.replicas.confirmed() if step in CONFIRMED_STEPS else nullcontext(self.redis) as client:
            return self._call(step, job, client, more_keys=more_keys, **arguments)

    def _call(self, step: str, job: Job, client: Redis, *, more_keys: Sequence[str] = (), **arguments: Any) -> Any:
        return self.scripts[step](
            [*job_keys(self.keys, job), *self.queue.keys(job.id), *more_keys],
            client=client,
            id=job.id,
            tenant=job.tenant,
            ttl_s=self.result_ttl_s,
            updates_channel=self.keys.updates_channel(job.id),
            batch_channel=self.keys.updates_channel(job.batch_id) if job.batch_id else None,
            model_queue_prefix=self.queue.model_queue_key(""),
            webhooks=self.keys.webhooks,
            usage_prefix=self.keys.usage_tenants(""),
            activity_prefix=self.keys.activity("") if job.livemode else None,
            fetch_prefix=self.keys.fetch_prefix,
            **arguments,
        )


def _created(job: Job, answer: Sequence[Any]) -> tuple[Job, QueuePosition | None]:
    """A job as `create.lua` has written it, and where it stands."""
    _, created_at, finished_at, deadline, *position = answer
    times = {"created_at": created_at, "finished_at": finished_at, "deadline": deadline}
    created = replace(job, **{name: json.loads(value) for name, value in times.items()})
    return created, QueuePosition(int(position[0]), float(position[1])) if position else None


def job_keys(keys: RedisKeys, job: Job) -> list[str]:
    """What a step may touch, in the order of `shared/common.lua`. A job without a batch has the name of none."""
    shared = indexes(keys, livemode=job.livemode)
    return [
        keys.record(job.id),
        keys.events(job.id),
        keys.tombstone(job.id),
        keys.by_created(job.tenant),
        keys.in_flight(job.tenant),
        shared.unfinished,
        shared.waiting,
        shared.deadlines,
        shared.running,
        shared.tenant_queues,
        *keys.of_batch(job.tenant, job.batch_id or ""),
    ]
