"""The job record: the public truth about one request, and the only code that knows its Redis keys.

RQ transports ids; what a client is told comes from here. A record is one Redis hash of JSON fields. Every change of
state is a compare-and-set on state and attempt inside Redis, so a terminal state never changes and a late duplicate
run loses. Nothing here enqueues or touches audio.
"""

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from redis import Redis

RECORD_VERSION = 1
RECORD_KEY = "apex:job:{id}"
OPEN_KEY = "apex:jobs:open"
MODEL_KEY = "apex:model"

Json = dict[str, Any]


class JobState(StrEnum):
    """Where a job is. The last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def done(self) -> bool:
        return self in TERMINAL_STATES


OPEN_STATES = frozenset({JobState.QUEUED, JobState.RUNNING})
TERMINAL_STATES = frozenset(JobState) - OPEN_STATES


def new_job_id() -> str:
    """An unguessable id of letters, digits and `_`, the only characters that RQ takes."""
    return f"job_{uuid.uuid4().hex}"


def now_s() -> float:
    """Seconds since the epoch, to the millisecond that the API shows."""
    return round(time.time(), 3)


@dataclass(frozen=True)
class Job:
    """One request and what came of it. Times are epoch seconds; `attempt` counts the runs begun.

    `audio` holds sha256, bytes and container from the upload, and the decoded facts once known. `progress` holds
    stage, segments_done and segments_total. `error` is a problem object. `model` is the model's identity.
    """

    id: str
    storage_key: str
    status: JobState = JobState.QUEUED
    attempt: int = 0
    created_at: float = field(default_factory=now_s)
    started_at: float | None = None
    finished_at: float | None = None
    request_id: str | None = None
    external_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    audio: Json = field(default_factory=dict)
    progress: Json = field(default_factory=lambda: {"stage": "queued", "segments_done": 0, "segments_total": None})
    result: Json | None = None
    error: Json | None = None
    model: Json | None = None
    timings: Json = field(default_factory=dict)
    version: int = RECORD_VERSION


FIELD_NAMES = frozenset(f.name for f in fields(Job))

# KEYS: record, open set. ARGV: id, allowed states, attempt or '', new state, ttl_s, field, value, ...
# Returns 1 when the change was made, 0 when the record is missing or has moved on.
_MOVE = """
local found = redis.call('HMGET', KEYS[1], 'status', 'attempt')
if not found[1] or not string.find(ARGV[2], found[1], 1, true) then return 0 end
if ARGV[3] ~= '' and found[2] ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'status', ARGV[4], unpack(ARGV, 6))
if tonumber(ARGV[5]) > 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
return 1
"""

# KEYS: record, open set. ARGV: id, created_at, field, value, ...  Returns 0 when the id is taken.
_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
"""

# KEYS: record, open set. ARGV: id, max_attempts, started_at.
# Returns the new attempt number, 0 when the job is over or unknown, -1 when its attempts are used up.
_START = """
local found = redis.call('HMGET', KEYS[1], 'status', 'attempt')
if found[1] ~= '"queued"' and found[1] ~= '"running"' then return 0 end
if tonumber(found[2]) >= tonumber(ARGV[2]) then return -1 end
redis.call('HSET', KEYS[1], 'status', '"running"', 'started_at', ARGV[3])
return redis.call('HINCRBY', KEYS[1], 'attempt', 1)
"""


class AttemptsExhausted(Exception):
    """The job has been begun as often as it may be; every run died before its end."""


class JobStore:
    """Reads and moves job records. Every method is one round trip, and blocking."""

    def __init__(self, redis: Redis, *, result_ttl_s: int) -> None:
        self.redis = redis
        self.result_ttl_s = result_ttl_s
        self._create = redis.register_script(_CREATE)
        self._start = redis.register_script(_START)
        self._move = redis.register_script(_MOVE)

    def create(self, job: Job) -> None:
        """Write a new record. Does not enqueue. Raises `ValueError` when the id is taken."""
        values = {f.name: getattr(job, f.name) for f in fields(job)}
        if not self._create(keys=_keys(job.id), args=[job.id, job.created_at, *_flat(values)]):
            raise ValueError(f"job {job.id} exists already")

    def get(self, job_id: str) -> Job | None:
        """The record, or None when it is unknown or has expired."""
        raw = self.redis.hgetall(RECORD_KEY.format(id=job_id))
        return _job(raw) if raw else None

    def start(self, job_id: str, *, max_attempts: int) -> Job | None:
        """Begin a run: the next attempt's record, or None when the job is over or unknown.

        A running job may be started again, because the run before may have died; the older run then loses every write.
        Raises `AttemptsExhausted` when `max_attempts` runs were begun already.
        """
        attempt = int(self._start(keys=_keys(job_id), args=[job_id, max_attempts, now_s()]))
        if attempt < 0:
            raise AttemptsExhausted(job_id)
        return self.get(job_id) if attempt else None

    def report(self, job: Job, **changes: Any) -> bool:
        """Update fields of a run in progress; False when the run has lost its job."""
        return self._moved(job, {JobState.RUNNING}, JobState.RUNNING, changes)

    def succeed(self, job: Job, **changes: Any) -> bool:
        """End a run with its result; False when the run has lost its job."""
        return self._moved(job, {JobState.RUNNING}, JobState.SUCCEEDED, changes)

    def fail(self, job: Job, *, error: Json, **changes: Any) -> bool:
        """End a job, running or still queued, with a problem; False when it has moved on."""
        return self._moved(job, OPEN_STATES, JobState.FAILED, {"error": error, **changes})

    def open_ids(self) -> list[str]:
        """Ids of all jobs that are not over, oldest first."""
        return [job_id.decode() for job_id in self.redis.zrange(OPEN_KEY, 0, -1)]

    def forget_open(self, job_id: str) -> None:
        """Drop an id without a record from the open set."""
        self.redis.zrem(OPEN_KEY, job_id)

    def publish_model(self, card: Json) -> None:
        """Say which model the workers run; the HTTP front end has no weights to look at."""
        self.redis.set(MODEL_KEY, json.dumps(card, allow_nan=False))

    def model(self) -> Json | None:
        """The card of the model that was loaded last, or None when no worker ever started."""
        raw = self.redis.get(MODEL_KEY)
        return json.loads(raw) if raw else None

    def _moved(self, job: Job, allowed: Iterable[JobState], state: JobState, changes: Mapping[str, Any]) -> bool:
        if state.done:
            changes = {"finished_at": now_s(), **changes}
        ttl_s = self.result_ttl_s if state.done else 0
        args = [job.id, _json(list(allowed)), job.attempt, _json(state), ttl_s, *_flat(changes)]
        return bool(self._move(keys=_keys(job.id), args=args))


def _keys(job_id: str) -> list[str]:
    return [RECORD_KEY.format(id=job_id), OPEN_KEY]


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _flat(values: Mapping[str, Any]) -> list[str]:
    return [item for name, value in values.items() for item in (name, _json(value))]


def _job(raw: Mapping[bytes, bytes]) -> Job:
    values = {name.decode(): json.loads(value) for name, value in raw.items()}
    known = {name: value for name, value in values.items() if name in FIELD_NAMES}
    return Job(**known | {"status": JobState(known["status"])})
