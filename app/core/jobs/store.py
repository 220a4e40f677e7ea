"""The job record: the public truth about one request, and the only code that knows its Redis keys.

RQ transports ids; what a client is told comes from here. A record is one Redis hash of JSON fields. Every change is a
compare-and-set on state and attempt inside Redis, so a terminal state never changes and a late duplicate run loses.
Everything that a job owns expires together. Nothing here enqueues or touches audio.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline

from app.core.callers import ANONYMOUS_TENANT
from app.core.jobs import scripts
from app.core.json_types import Json

log = logging.getLogger(__name__)

RECORD_VERSION = 1

UNFINISHED_KEY = "apex:jobs:open"
WAITING_KEY = "apex:jobs:waiting"
DEADLINES_KEY = "apex:jobs:deadlines"
RUNNING_KEY = "apex:jobs:running"
QUEUED_AUDIO_TOTAL_KEY = "apex:queue:ticket"
MODEL_KEY = "apex:model"
MISSING_SANDBOX_LAYERS_KEY = "apex:missing_walls"
THROUGHPUT_KEY = "apex:rate"

#: The one event that does not end a job.
PROGRESS = "job.progress"

#: Weight of the newest track in the measured rate.
THROUGHPUT_SMOOTHING = 0.2


class JobState(StrEnum):
    """Where a job is: `queued` for a worker, `running` on one; then `succeeded`, `failed` or `canceled`, for good."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def done(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class RunSignal(StrEnum):
    """What a run is told when it reports: carry on, or why to stop."""

    OK = "ok"
    LOST = "lost"
    BY_CLIENT = "by_client"
    DEADLINE_EXCEEDED = "deadline_exceeded"


def new_job_id() -> str:
    """An unguessable id of letters, digits and `_`, the only characters that RQ takes."""
    return f"job_{uuid.uuid4().hex}"


def now_s() -> float:
    """Seconds since the epoch, to the millisecond that the API shows."""
    return round(time.time(), 3)


@dataclass(frozen=True)
class Job:
    """One request and what came of it. Times are epoch seconds; `attempt` counts the runs begun.

    `lease_until`: a running job whose lease is over has lost its worker. `worker` names the process that holds it.
    `preemptions` counts the runs that ended early through no fault of the job. `deadline`: not run after this.
    `audio` holds sha256, bytes and container from the upload, and the decoded facts once known. `progress` holds
    stage, segments_done and segments_total. `error` is a problem object. `model` is the model's identity.
    `estimated_s` guesses the track's length before it is decoded. `cached`: the scores are an earlier job's.
    `fingerprint` is of the request that made the job, `idempotency` the Redis key of its stored answer.
    """

    id: str
    storage_key: str
    tenant: str = ANONYMOUS_TENANT
    status: JobState = JobState.QUEUED
    status_reason: str | None = None
    attempt: int = 0
    created_at: float = field(default_factory=now_s)
    started_at: float | None = None
    finished_at: float | None = None
    deadline: float | None = None
    cancel_requested_at: float | None = None
    request_id: str | None = None
    trace_id: str | None = None
    external_id: str | None = None
    batch_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    audio: Json = field(default_factory=dict)
    estimated_s: float = 0.0
    progress: Json = field(default_factory=lambda: {"stage": "queued", "segments_done": 0, "segments_total": None})
    result: Json | None = None
    error: Json | None = None
    model: Json | None = None
    timings: Json = field(default_factory=dict)
    cached: bool = False
    fingerprint: str | None = None
    idempotency: str | None = None
    lease_until: float = 0.0
    worker: str | None = None
    preemptions: int = 0
    version: int = RECORD_VERSION

    @property
    def attempts_used(self) -> int:
        """Runs that count against the attempts that a job has."""
        return self.attempt - self.preemptions


#: Fields that are stored under another name than they have here: records outlive a release.
STORED_NAMES = {"preemptions": "handed_back"}
STORED_FIELDS = {f.name: STORED_NAMES.get(f.name, f.name) for f in fields(Job)}


@dataclass(frozen=True)
class Event:
    """One thing that happened to a job; `id` orders them."""

    id: str
    name: str
    data: Json


@dataclass(frozen=True)
class QueuePosition:
    """Where a queued job stands: how many are before it, and how many seconds of audio they hold, by estimate."""

    position: int
    audio_seconds_ahead: float


@dataclass(frozen=True)
class Run:
    """A run in progress: when it began, and how many seconds of audio it holds, by estimate."""

    started_at: float
    audio_s: float


class AttemptsExhausted(Exception):
    """The job has been begun as often as it may be; every run died before its end."""


class TooManyJobsInFlight(Exception):
    """The tenant has as many jobs in flight as it may have."""


class QueueFull(Exception):
    """More audio waits than the service wants to promise for."""


class UnknownBatch(Exception):
    """The tenant has no such batch, or it has expired."""


class BatchFull(Exception):
    """The batch has as many jobs as one may have."""


class JobExists(ValueError):
    """The id is taken."""


#: What the script that makes a record says when it makes none.
CREATE_ERRORS: Mapping[str, type[Exception]] = {
    "held": TooManyJobsInFlight,
    "backlog": QueueFull,
    "no_batch": UnknownBatch,
    "batch_full": BatchFull,
    "exists": JobExists,
}


class JobStore:
    """Reads and moves job records. Every method is blocking; one that changes a record is one atomic step."""

    def __init__(self, redis: Redis, *, result_ttl_s: int) -> None:
        self.redis = redis
        self.result_ttl_s = result_ttl_s
        self._create = redis.register_script(scripts.CREATE)
        self._start = redis.register_script(scripts.START)
        self._renew = redis.register_script(scripts.RENEW)
        self._report = redis.register_script(scripts.REPORT)
        self._end = redis.register_script(scripts.END)
        self._release = redis.register_script(scripts.RELEASE)
        self._cancel = redis.register_script(scripts.CANCEL)
        self._purge = redis.register_script(scripts.PURGE)

    # What the front end does.

    def create(
        self,
        job: Job,
        *,
        max_in_flight: int | None = None,
        max_backlog_s: float | None = None,
        extra_commands: Callable[[Pipeline], None] | None = None,
    ) -> QueuePosition | None:
        """Write a new record, which may be terminal already; where an open one stands. Does not enqueue by itself.

        `also` adds commands that follow the record in one step with it. They are carried out when the record is refused
        as well, and when they fail that is only logged.
        Raises `TooManyJobsInFlight` or `QueueFull` when a limit is given and reached, `UnknownBatch` or `BatchFull` for
        a batch that cannot be joined, `JobExists` when the id is taken.
        """
        limits = ["" if limit is None else str(limit) for limit in (max_in_flight, max_backlog_s)]
        values = {f.name: getattr(job, f.name) for f in fields(job)}
        batch = batch_key(job.tenant, job.batch_id) if job.batch_id else ""
        head = [job.id, str(job.created_at), str(job.estimated_s), *limits, str(self.result_ttl_s), batch]
        args = [*head, *_flat(values)]
        said = self._created(_keys(job.id, job.tenant), args, extra_commands)
        if isinstance(said, list):
            _, position, ahead_s = said
            return QueuePosition(int(position), float(ahead_s))
        if refusal := CREATE_ERRORS.get(text(said)):
            raise refusal(job.id)
        return None

    def _created(self, keys: list[str], args: list[str], extra_commands: Callable[[Pipeline], None] | None) -> Any:
        if extra_commands is None:
            return self._create(keys=keys, args=args)
        with self.redis.pipeline() as pipe:
            pipe.eval(scripts.CREATE, len(keys), *keys, *args)
            extra_commands(pipe)
            said, *rest = pipe.execute(raise_on_error=False)
        if isinstance(said, Exception):
            raise said
        for failed in filter(lambda answer: isinstance(answer, Exception), rest):
            log.warning("a command beside the record failed", exc_info=failed)
        return said

    def get(self, job_id: str) -> Job | None:
        """The record, or None when it is unknown or has expired."""
        raw = self.redis.hgetall(_record_key(job_id))
        return _job(raw) if raw else None

    def expired_at(self, job_id: str, *, tenant: str) -> float | None:
        """When a job of this tenant went away, None when there never was one."""
        raw = self.redis.get(_tombstone_key(job_id))
        tombstone = json.loads(raw) if raw else {}
        return cast(float, tombstone["expired_at"]) if tombstone.get("tenant") == tenant else None

    def cancel(self, job: Job) -> None:
        """End a queued job; ask a running one to stop. Does nothing to one that is over."""
        self._cancel(keys=_keys(job.id, job.tenant), args=[job.id, str(self.result_ttl_s)])

    def purge(self, job: Job) -> None:
        """Forget a job, whatever its state: a run in progress finds that it has lost it. Only a tombstone stays."""
        self._purge(keys=_keys(job.id, job.tenant), args=[job.id, job.tenant, str(self.result_ttl_s)])

    def list_by_created(
        self, tenant: str, *, newest: float = float("inf"), oldest: float = 0.0
    ) -> Iterator[tuple[float, str]]:
        """Creation time and id of a tenant's jobs between two times, newest first, a page at a time.

        Of equal times the greater id comes first. Ids of expired records may be among them.
        """
        start, page = 0, 200
        while found := self._page(tenant, newest, oldest, start, page):
            for job_id, created_at in found:
                yield created_at, text(job_id)
            # A page begins at the time where the one before ended, so that what comes or goes meanwhile moves nothing.
            last = found[-1][1]
            start = (start if last == newest else 0) + sum(created_at == last for _, created_at in found)
            newest = last

    def get_many(self, job_ids: Iterable[str]) -> list[Job | None]:
        """The records of several ids in their order, in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(_record_key(job_id))
            return [_job(raw) if raw else None for raw in pipe.execute()]

    def states(self, job_ids: Iterable[str]) -> list[JobState | None]:
        """The states of several ids in their order, in one round trip; None for one that is unknown or has expired."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(_record_key(job_id), "status")
            return [JobState(json.loads(raw)) if raw else None for raw in pipe.execute()]

    def get_fields(self, job_ids: Iterable[str], names: Sequence[str]) -> list[Json | None]:
        """Some fields of several records in their order, None for a record that is not there; in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(_record_key(job_id), names)
            found = pipe.execute()
        values = ([json.loads(value) if value else None for value in record] for record in found)
        return [dict(zip(names, record, strict=True)) if any(record) else None for record in values]

    def forget_listed(self, tenant: str, *job_ids: str) -> None:
        """Drop ids whose records have expired from their tenant's list."""
        if job_ids:
            self.redis.zrem(_by_created_key(tenant), *job_ids)

    def cached_result(self, *, tenant: str, sha256: str, model_version: str) -> Job | None:
        """A tenant's succeeded job of the same bytes and model, if there is one."""
        job_id = self.redis.get(_cached_result_key(tenant, sha256, model_version))
        return self.get(text(job_id)) if job_id else None

    def events(self, job_id: str, *, after: str = "-") -> list[Event]:
        """What happened to a job since the event `after`, oldest first. Only the last few hundred are kept."""
        start = f"({after}" if after != "-" else "-"
        found = cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(_events_key(job_id), start, "+"))
        return [Event(text(at), text(entry[b"event"]), json.loads(entry[b"data"])) for at, entry in found]

    def has_event(self, job_id: str, event_id: str) -> bool:
        """Whether an event is still kept."""
        return bool(self.redis.xrange(_events_key(job_id), event_id, event_id))

    # What a run does.

    def start(self, job_id: str, *, max_attempts: int, lease_s: float, worker: str = "") -> Job | None:
        """Begin a run: the next attempt's record, or None when there is nothing to do.

        Nothing is to do for a job that is over, unknown, overdue or held by a live worker. A running job whose lease
        is over is started again; the older run, should it still live, then loses every write. The `worker` that holds
        the job already is given its run again.
        Raises `AttemptsExhausted` when `max_attempts` runs were begun already.
        """
        job = self.get(job_id)
        if job is None:
            return None
        args = [job_id, str(max_attempts), str(lease_s), str(self.result_ttl_s), _json(worker)]
        attempt = int(self._start(keys=_keys(job_id, job.tenant), args=args))
        if attempt < 0:
            raise AttemptsExhausted(job_id)
        return self.get(job_id) if attempt else None

    def renew(self, job: Job, *, lease_s: float) -> bool:
        """Say that a run is alive for another `lease_s`; False when the run has lost its job."""
        return bool(self._renew(keys=_keys(job.id, job.tenant), args=[str(job.attempt), str(lease_s)]))

    def report(self, job: Job, **changes: Any) -> RunSignal:
        """Update fields of a run in progress, and hear whether to carry on."""
        args = [job.id, str(job.attempt), *_flat(changes)]
        return RunSignal(text(self._report(keys=_keys(job.id, job.tenant), args=args)))

    def requeue(self, job: Job, *, counted: bool = True) -> bool:
        """Give a run's job back to the reconciler's care; False when the run has lost its job.

        A run that is not `counted` leaves the job as many attempts as before.
        """
        args = [job.id, str(job.attempt), str(int(counted))]
        return bool(self._release(keys=_keys(job.id, job.tenant), args=args))

    def succeed(self, job: Job, **changes: Any) -> bool:
        """End a run with its result; False when the run has lost its job."""
        version = (changes.get("model") or {}).get("version")
        sha256 = job.audio.get("sha256")
        scored = _cached_result_key(job.tenant, sha256, version) if sha256 and version else ""
        return self._ended(job, JobState.SUCCEEDED, changes, scored=scored, allow_queued=False)

    def fail(self, job: Job, *, error: Json, **changes: Any) -> bool:
        """End a job, running or still queued, with a problem; False when it has moved on."""
        return self._ended(job, JobState.FAILED, {"error": error, **changes}, allow_queued=True)

    def stop(self, job: Job, *, reason: RunSignal, **changes: Any) -> bool:
        """End a job that was asked to stop or is overdue; False when it has moved on."""
        return self._ended(job, JobState.CANCELED, {"status_reason": reason, **changes}, allow_queued=True)

    # What keeps the service whole.

    def unfinished_ids(self) -> list[str]:
        """Ids of all jobs that are not over, oldest first."""
        return [text(job_id) for job_id in cast(list[bytes], self.redis.zrange(UNFINISHED_KEY, 0, -1))]

    def is_orphaned(self, job: Job) -> bool:
        """Whether no live worker holds the job: it waits, or its worker's lease is over."""
        seconds, microseconds = self.redis.time()
        return job.status is JobState.QUEUED or job.lease_until < seconds + microseconds / 1e6

    def drop_unfinished(self, job_id: str) -> None:
        """Drop an id without a record from the sets of open jobs."""
        self.redis.zrem(UNFINISHED_KEY, job_id)
        self.redis.zrem(WAITING_KEY, job_id)
        self.redis.zrem(DEADLINES_KEY, job_id)
        self.redis.hdel(RUNNING_KEY, job_id)

    def overdue(self) -> list[Job]:
        """Jobs that wait although their deadline has passed."""
        seconds, _ = self.redis.time()
        ids = cast(list[bytes], self.redis.zrange(DEADLINES_KEY, 0, seconds, byscore=True))
        jobs = [self.get(text(job_id)) for job_id in ids]
        return [job for job in jobs if job and job.status is JobState.QUEUED]

    # The queue as a whole.

    def queue_position(self, job: Job) -> QueuePosition | None:
        """Where a queued job stands, None when it does not wait."""
        return self.queue_positions([job])[0]

    def queue_positions(self, jobs: Iterable[Job]) -> list[QueuePosition | None]:
        """Where several jobs stand, in one round trip."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrange(WAITING_KEY, 0, 0, withscores=True)
        for job in jobs:
            pipe.zrank(WAITING_KEY, job.id, withscore=True)
        first, *found = pipe.execute()
        return [_queue_position(rank, first) for rank in found]

    def next_position(self) -> QueuePosition:
        """Where the next job would stand."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.zcard(WAITING_KEY)
        pipe.zrange(WAITING_KEY, 0, 0, withscores=True)
        pipe.get(QUEUED_AUDIO_TOTAL_KEY)
        count, first, ticket = pipe.execute()
        ahead_s = float(ticket or 0.0) - first[0][1] if first else 0.0
        return QueuePosition(position=count + 1, audio_seconds_ahead=max(ahead_s, 0.0))

    def running(self) -> list[Run]:
        """The runs in progress, those of workers that died unnoticed among them."""
        found = cast(list[bytes], self.redis.hvals(RUNNING_KEY))
        return [Run(**json.loads(run)) for run in found]

    def open_count(self, tenant: str) -> int:
        """Jobs of a tenant that are not over."""
        return int(self.redis.zcard(in_flight_key(tenant)))

    def record_throughput(self, audio_s_per_s: float) -> None:
        """Note how fast one worker scored a track; a smoothed rate is kept."""
        before = self.rate()
        throughput = audio_s_per_s if before is None else before + THROUGHPUT_SMOOTHING * (audio_s_per_s - before)
        self.redis.set(THROUGHPUT_KEY, throughput)

    def rate(self) -> float | None:
        """Seconds of audio that one worker scores in a second, None before the first track."""
        raw = self.redis.get(THROUGHPUT_KEY)
        return float(raw) if raw else None

    def publish_model(self, card: Json) -> None:
        """Say which model the workers run; the HTTP front end has no weights to look at."""
        self.redis.set(MODEL_KEY, json.dumps(card, allow_nan=False))

    def model(self) -> Json | None:
        """The card of the model that was loaded last, or None when no worker ever started."""
        raw = self.redis.get(MODEL_KEY)
        return json.loads(raw) if raw else None

    def publish_missing_sandbox_layers(self, names: Iterable[str]) -> None:
        """Say which walls around the decoder this worker's machine cannot have."""
        self.redis.set(MISSING_SANDBOX_LAYERS_KEY, json.dumps(list(names)))

    def _page(self, tenant: str, newest: float, oldest: float, start: int, count: int) -> list[tuple[bytes, float]]:
        found = self.redis.zrange(
            _by_created_key(tenant), newest, oldest, desc=True, byscore=True, offset=start, num=count, withscores=True
        )
        return cast(list[tuple[bytes, float]], found)

    def _ended(
        self, job: Job, state: JobState, changes: Mapping[str, Any], *, scored: str = "", allow_queued: bool
    ) -> bool:
        head = [job.id, str(job.attempt), state, str(self.result_ttl_s), scored, str(int(allow_queued))]
        return bool(self._end(keys=_keys(job.id, job.tenant), args=[*head, *_flat(changes)]))


def updates_channel(job_id: str) -> str:
    """Pub/sub channel on which every change of a job is told."""
    return f"apex:moved:{job_id}"


def text(value: bytes | str) -> str:
    """What Redis gave, as text; its client gives bytes or text by its own settings."""
    return value.decode() if isinstance(value, bytes) else value


def batch_key(tenant: str, batch_id: str) -> str:
    """Where a batch is; its items and its open jobs are beside it. A foreign batch is looked for where none is."""
    return f"apex:batch:{tenant}:{batch_id}"


def _record_key(job_id: str) -> str:
    return f"apex:job:{job_id}"


def _events_key(job_id: str) -> str:
    return f"apex:events:{job_id}"


def _tombstone_key(job_id: str) -> str:
    return f"apex:gone:{job_id}"


def _by_created_key(tenant: str) -> str:
    return f"apex:jobs:of:{tenant}"


def in_flight_key(tenant: str) -> str:
    return f"apex:jobs:held:{tenant}"


def _cached_result_key(tenant: str, sha256: str, model_version: str) -> str:
    return f"apex:scored:{tenant}:{sha256}:{model_version}"


def _keys(job_id: str, tenant: str) -> list[str]:
    """All that a script may touch, in the order in which `app.core.jobs.scripts` names it."""
    return [
        _record_key(job_id),
        UNFINISHED_KEY,
        WAITING_KEY,
        in_flight_key(tenant),
        _events_key(job_id),
        _tombstone_key(job_id),
        _by_created_key(tenant),
        DEADLINES_KEY,
        RUNNING_KEY,
    ]


def _queue_position(rank: Sequence[float] | None, first: Sequence[tuple[bytes, float]]) -> QueuePosition | None:
    if rank is None or not first:
        return None
    position, ticket = rank
    return QueuePosition(position=int(position) + 1, audio_seconds_ahead=max(float(ticket) - first[0][1], 0.0))


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _flat(values: Mapping[str, Any]) -> list[str]:
    return [item for name, value in values.items() for item in (STORED_NAMES.get(name, name), _json(value))]


def _job(raw: Mapping[bytes | str, bytes | str]) -> Job:
    values = {text(name): json.loads(value) for name, value in raw.items()}
    known = {name: values[stored] for name, stored in STORED_FIELDS.items() if stored in values}
    return Job(**known | {"status": JobState(known["status"])})
