"""A job: its record, its states, its events, and the errors of changing it."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from app.core.callers import ANONYMOUS_TENANT, is_live
from app.core.json_types import Json
from app.core.stored import EpochSeconds, field_names, record_of

RECORD_VERSION = 1

#: The one event that does not end a job.
PROGRESS = "job.progress"

#: A script that notes the states of a batch anew reads the records of all of its jobs, so their number is limited.
MAX_BATCH_ITEMS = 10_000


class JobState(StrEnum):
    """Where a job is: `queued` for a worker, `running` on one; then `succeeded`, `failed` or `canceled`, for good."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def done(self) -> bool:
        return self not in UNFINISHED_STATES


UNFINISHED_STATES = (JobState.QUEUED, JobState.RUNNING)
FINAL_STATES = frozenset(state for state in JobState if state.done)


class RunSignal(StrEnum):
    """The answer to a run that reports: carry on, or why to stop."""

    OK = "ok"
    LOST = "lost"
    BY_CLIENT = "by_client"
    DEADLINE_EXCEEDED = "deadline_exceeded"


def new_job_id() -> str:
    """An unguessable id of letters, digits and `_`, the only characters that RQ takes."""
    return f"job_{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Job:
    """One request and what came of it. Times are epoch seconds by Redis's clock; `attempt` counts the runs begun.

    `created_at` is 0 until the record is written. `lease_until`: a running job whose lease is over has lost its worker;
    so has one whose lease ends further off than its length, `lease_s`. `worker` names the process that runs it.
    `preemptions` counts the runs that ended early through no fault of the job; `machine_fault_at`: when a fault of a
    worker's machine first ended one. `deadline`: not run after this.
    `audio` holds sha256, bytes and container from the upload, and the decoded facts once known. `progress` holds
    stage, segments_done and segments_total. `error` is a problem object. `model` is the model's identity.
    `estimated_s` estimates the track's length before it is decoded. `cached`: the scores are an earlier job's.
    `model_version`: only a worker of this model may run it. `with_segments`, `with_embedding`: what the client wants to
    read beside the scores. `webhook_url` is told of the `webhook_events`.
    `source`, of a job whose track is yet to be fetched: its `url`, and the `limits` of the key that sent it.
    `fetch` counts the fetches begun, `fetch_preemptions` those that ended early through no fault of the source.
    `fingerprint` is of the request that made the job, `idempotency` the Redis key of its stored response, `key_id` the
    API key that sent it.
    """

    id: str
    storage_key: str
    tenant: str = ANONYMOUS_TENANT
    status: JobState = JobState.QUEUED
    status_reason: str | None = None
    attempt: int = 0
    created_at: EpochSeconds = 0.0
    started_at: EpochSeconds | None = None
    finished_at: EpochSeconds | None = None
    deadline: EpochSeconds | None = None
    cancel_requested_at: EpochSeconds | None = None
    request_id: str | None = None
    trace_id: str | None = None
    external_id: str | None = None
    batch_id: str | None = None
    model_version: str | None = None
    with_segments: bool = False
    with_embedding: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    audio: Json = field(default_factory=dict)
    estimated_s: float = 0.0
    progress: Json = field(default_factory=lambda: {"stage": "queued", "segments_done": 0, "segments_total": None})
    result: Json | None = None
    error: Json | None = None
    model: Json | None = None
    timings: Json = field(default_factory=dict)
    cached: bool = False
    webhook_url: str | None = None
    webhook_events: list[str] = field(default_factory=list)
    fingerprint: str | None = None
    idempotency: str | None = None
    key_id: str | None = None
    source: Json | None = field(default=None, repr=False)
    fetch: int = 0
    fetch_preemptions: int = 0
    lease_until: EpochSeconds = 0.0
    lease_s: float | None = None
    worker: str | None = None
    preemptions: int = 0
    machine_fault_at: EpochSeconds | None = None
    end_confirmed: bool = False
    version: int = RECORD_VERSION

    @property
    def livemode(self) -> bool:
        """Whether workers run it. A test job belongs to a tenant's test data, and gets made-up scores."""
        return is_live(self.tenant)

    @property
    def attempts_used(self) -> int:
        """Runs that count against the attempts that a job has."""
        return self.attempt - self.preemptions

    def to_fields(self) -> dict[str, str]:
        """The record as it is stored: each field as JSON text."""
        return stored_fields({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def from_fields(cls, stored: Mapping[bytes | str, bytes | str]) -> "Job":
        """The job of a record. Fields of later versions are ignored, those that an older one lacks have defaults.

        Raises `Unreadable` for a record that is damaged, or has values that only a later version knows.
        """
        return record_of(cls, "a job's record", stored, FIELDS)


#: Fields that are stored under another name than they have here: records outlive a release.
STORED_NAMES = {"preemptions": "handed_back"}
_encode = json.JSONEncoder(allow_nan=False).encode  # json.dumps would make an encoder for each of some forty fields
FIELDS = field_names(Job, stored_as=STORED_NAMES)


def stored_fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Some fields of a job as they are stored, under the names that they have in the record."""
    return {STORED_NAMES.get(name, name): _encode(value) for name, value in values.items()}


@dataclass(frozen=True)
class Event:
    """One thing that happened to a job; `id` orders them."""

    id: str
    name: str
    data: Json


@dataclass(frozen=True)
class QueuePosition:
    """Where a queued job stands: its position from 1, and the seconds of audio that each tenant may run before it."""

    position: int
    tenant_audio_s: float


@dataclass(frozen=True)
class Run:
    """A run in progress: when it began, and its estimated seconds of audio."""

    started_at: EpochSeconds
    audio_s: float


@dataclass(frozen=True)
class Orphan:
    """An unfinished job that no worker runs: its attempts that are used, and when RQ was given it last, or ''."""

    id: str
    tenant: str
    attempts_used: int
    enqueued_at: str


class AttemptsExhausted(Exception):
    """The job has been started as often as it may be; every run died before its end."""


class Overdue(Exception):
    """The job's deadline passed before a run began."""


class FetchesExhausted(Exception):
    """The job's track has been fetched as often as it may be."""


class ModelUnavailable(Exception):
    """The job asks for a model that no worker has run for a day."""


class TooManyJobsInFlight(Exception):
    """The tenant has as many unfinished jobs as it may have."""


class QueueFull(Exception):
    """As much audio waits as the service accepts."""


class QueueShareExceeded(Exception):
    """As much of the tenant's audio waits as the others leave to it."""


class UnknownBatch(Exception):
    """The tenant has no such batch, or it has expired."""


class BatchFull(Exception):
    """The batch has as many items as one may have."""


class JobExists(ValueError):
    """The id is taken."""
