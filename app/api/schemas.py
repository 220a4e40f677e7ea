"""Schemas: what clients send and read, field by field, and how a job record becomes what they read."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    StringConstraints,
)

from app.api.jobs.wait_estimate import QueueEstimate
from app.core.jobs.store import Job as JobRecord
from app.core.jobs.store import JobState
from model.domain import SCORE_RANGES

MAX_EXTERNAL_ID_CHARS = 128
MAX_MODEL_VERSION_CHARS = 128
MAX_METADATA_KEYS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512

Timestamp = Annotated[
    str,
    Field(
        json_schema_extra={"format": "date-time"}, examples=["2026-11-22T15:08:11.204Z"], description="RFC 3339, UTC."
    ),
]
ScoreMap = Annotated[dict[str, float], Field(json_schema_extra={"propertyNames": {"enum": list(SCORE_RANGES)}})]
RangeMap = Annotated[
    dict[str, tuple[float, float]], Field(json_schema_extra={"propertyNames": {"enum": list(SCORE_RANGES)}})
]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=MAX_METADATA_KEY_CHARS)]
MetadataValue = Annotated[str, StringConstraints(max_length=MAX_METADATA_VALUE_CHARS)]


ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXTERNAL_ID_CHARS)]
Metadata = Annotated[
    Json[Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS)]],
    Field(
        description=f"A JSON object of at most {MAX_METADATA_KEYS} strings; comes back unchanged.",
        examples=['{"album": "x"}'],
    ),
]


class TrackOptions(BaseModel):
    """What a client may say about a track: form fields beside the file, or query parameters beside a raw body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    external_id: ExternalId | None = Field(
        None, description="The client's own name for the track; comes back unchanged.", examples=["track-9931"]
    )
    metadata: Metadata = Field(default_factory=dict)
    model_version: Annotated[str, StringConstraints(min_length=1, max_length=MAX_MODEL_VERSION_CHARS)] | None = Field(
        None,
        description="Refuse the track unless the workers run this model; `GET /model` names it.",
        examples=["apex-1.0.0"],
    )
    batch_id: Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXTERNAL_ID_CHARS)] | None = Field(
        None,
        description="Add the job to this batch, which `POST /batches` made.",
        examples=["bat_5c4d3b2a0f8c8d3e9b5a4c3f8d2b7a6e"],
    )


class BatchOptions(BaseModel):
    """What a client may say about a batch: form fields beside its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_external_id: ExternalId | None = Field(
        None, description="The client's own name for the batch; comes back unchanged.", examples=["album-17"]
    )
    metadata: Metadata = Field(default_factory=dict)
    model_version: Annotated[str, StringConstraints(min_length=1, max_length=MAX_MODEL_VERSION_CHARS)] | None = Field(
        None,
        description="Refuse the tracks unless the workers run this model; `GET /model` names it.",
        examples=["apex-1.0.0"],
    )


class FieldError(BaseModel):
    """One thing that is wrong with a request. The value that was sent is never shown."""

    pointer: str = Field(description="JSON pointer to the field.", examples=["#/external_id"])
    detail: str = Field(description="What is wrong with it.")


def _absent(value: object) -> bool:
    return value is None


class JobReason(BaseModel):
    """Why one of several jobs will not do."""

    job_id: str
    detail: str = Field(examples=["The job is running."])


class Problem(BaseModel):
    """An error, as RFC 9457 says it. Extensions depend on `code`, and are left out where they do not apply."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Path of a page that explains the problem.", examples=["/problems/payload-too-large"])
    title: str = Field(description="The same for every problem of this type.")
    status: int = Field(ge=400, le=599, description="HTTP status.")
    detail: str = Field(description="What happened this time.")
    code: str = Field(description="Stable name for programs.", examples=["payload_too_large"])
    retryable: bool = Field(description="Whether the same request may work later.")
    instance: str | None = Field(None, exclude_if=_absent, description="Path of the request.")
    request_id: str | None = Field(None, exclude_if=_absent, description="Names the request in the server's logs.")
    errors: list[FieldError] | None = Field(None, exclude_if=_absent, description="Fields that are not valid.")
    limit_bytes: int | None = Field(None, exclude_if=_absent, description="The limit that was passed.")
    accepted: list[str] | None = Field(None, exclude_if=_absent, description="What would have been accepted.")
    attempts: int | None = Field(None, exclude_if=_absent, description="How often a job was run.")
    required_scope: str | None = Field(None, exclude_if=_absent, description="The scope that the key lacks.")
    job_id: str | None = Field(None, exclude_if=_absent, description="The job that the first request made.")
    jobs: list[JobReason] | None = Field(None, exclude_if=_absent, description="Jobs that cannot be compared.")
    status_now: Literal["succeeded", "failed"] | None = Field(
        None, exclude_if=_absent, description="How the job ended."
    )
    expired_at: Timestamp | None = Field(None, exclude_if=_absent, description="When the job went away.")
    violated_policies: list[str] | None = Field(
        None, exclude_if=_absent, description="The limits that are reached, by their names in `RateLimit-Policy`."
    )


class Audio(BaseModel):
    """The track: facts of the upload at once, facts of the decoded audio once known."""

    sha256: str | None = Field(None, description="Of the bytes as they were sent.")
    bytes: int | None = Field(None, description="Size of the file.")
    container: str | None = Field(None, description="From the file's own bytes.", examples=["mp3"])
    codec: str | None = Field(None, examples=["mp3"])
    sample_rate_hz: int | None = Field(None, examples=[44100])
    channels: int | None = Field(None, examples=[2])
    duration_s: float | None = Field(None, description="Counted in decoded samples.", examples=[183.4])


class Progress(BaseModel):
    """How far the run is. Segments of 30 s are counted, not guessed."""

    stage: Literal["queued", "decoding", "embedding", "scoring"] = Field(
        description="What the run does now, or did last."
    )
    segments_done: int
    segments_total: int | None = Field(description="Null until the track is decoded.")
    ratio: float = Field(ge=0, le=1, description="Share of the segments that are done.")


class Result(BaseModel):
    """The scores. Every score of the loaded model is there: seven, or two when it knows only popularity."""

    scores: ScoreMap = Field(
        description="Score by name, with four decimals.",
        examples=[{"score_streams": 61.4213, "score_likes": 48.0687, "coherence": 3.8142, "musicality": 3.6603}],
    )
    ranges: RangeMap = Field(description="Lowest and highest value that each score can take.")


class ModelIdentity(BaseModel):
    """What exactly gave the scores."""

    name: str = Field(examples=["apex"])
    version: str = Field(examples=["apex-1.0.0"])
    trained: bool = Field(description="False for the stand-in: its scores mean nothing.")
    checkpoint_sha256: str | None = Field(None, description="Of the head's weights.")
    encoder: str | None = Field(None, examples=["m-a-p/MERT-v1-95M"])
    preprocessing: str | None = Field(None, examples=["mono-24k-30s-v1"])
    engine: str | None = Field(None, description="Library that runs the encoder.", examples=["torch"])
    device: str | None = Field(None, examples=["cuda"])
    precision: str | None = Field(None, description="What the encoder computed in.", examples=["fp32"])
    precision_deviation: dict[str, float] = Field(
        default_factory=dict,
        description="By how much each score moved at most, against fp32, when the worker scored its probe in this "
        "precision at its start. Empty in fp32.",
        examples=[{}],
    )


class Timings(BaseModel):
    """Seconds that each stage took; null for one that was not reached."""

    upload_s: float | None = None
    queue_s: float | None = None
    decode_s: float | None = None
    inference_s: float | None = None
    total_s: float | None = Field(None, description="From acceptance to the end.")


class Links(BaseModel):
    """Where to go from here."""

    itself: str = Field(alias="self", examples=["/jobs/job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a"])
    cancel: str = Field(examples=["/jobs/job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a/cancel"])
    events: str = Field(examples=["/jobs/job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a/events"])


class QueuePlace(BaseModel):
    """Where a job stands in the queue, and when its turn should come. Estimates, not promises."""

    position: int = Field(description="1 for the next to run.", examples=[3])
    audio_seconds_ahead: float = Field(description="Seconds of audio that wait before it.", examples=[512.0])
    estimated_start_at: Timestamp | None = Field(description="Null while no worker runs or none was measured.")
    estimated_done_at: Timestamp | None = Field(description="Null while no worker runs or none was measured.")


class Job(BaseModel):
    """One request to score one track, and what came of it."""

    id: str = Field(examples=["job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a"])
    object: Literal["job"] = "job"
    status: JobState = Field(description="The last three are final: `succeeded`, `failed`, `canceled`.")
    done: bool = Field(description="Whether the status is final.")
    status_reason: Literal["by_client", "deadline_exceeded", "purged"] | None = Field(
        description="Why a canceled job was canceled."
    )
    external_id: str | None = Field(description="As it was sent.")
    batch_id: str | None = Field(description="The batch that the job belongs to.")
    metadata: dict[str, str] = Field(description="As it was sent.")
    created_at: Timestamp
    started_at: Timestamp | None = Field(description="When the latest run began.")
    finished_at: Timestamp | None
    deadline: Timestamp | None = Field(description="The job is canceled if it is not over by then.")
    cancel_requested_at: Timestamp | None = Field(description="When a client asked a running job to stop.")
    expires_at: Timestamp | None = Field(description="When the finished job is forgotten.")
    audio: Audio
    queue: QueuePlace | None = Field(description="Null unless the job waits, and its place is known.")
    progress: Progress
    result: Result | None = Field(description="Null unless the job succeeded.")
    error: Problem | None = Field(description="Null unless the job failed.")
    model: ModelIdentity | None = Field(description="Null until a run is over.")
    timings: Timings
    attempt: int = Field(description="Runs begun so far.")
    cached: bool = Field(description="Whether the scores were those of an earlier job of the same track.")
    request_id: str | None = Field(description="Of the request that made the job.")
    links: Links


def job_view(job: JobRecord, *, result_ttl_s: int, queue: QueueEstimate | None = None) -> Job:
    """What a client reads of a record; `queue` is where it stands, for one that waits."""
    return Job.model_validate(
        {
            "id": job.id,
            "status": job.status,
            "done": job.status.done,
            "status_reason": job.status_reason,
            "external_id": job.external_id,
            "batch_id": job.batch_id,
            "metadata": job.metadata,
            "created_at": timestamp(job.created_at),
            "started_at": timestamp(job.started_at),
            "finished_at": timestamp(job.finished_at),
            "deadline": timestamp(job.deadline),
            "cancel_requested_at": timestamp(job.cancel_requested_at),
            "expires_at": timestamp(job.finished_at + result_ttl_s if job.finished_at else None),
            "audio": job.audio,
            "queue": _queue(queue),
            "progress": _progress(job),
            "result": job.result,
            "error": job.error,
            "model": job.model,
            "timings": job.timings,
            "attempt": job.attempt,
            "cached": job.cached,
            "request_id": job.request_id,
            "links": {
                "self": f"/jobs/{job.id}",
                "cancel": f"/jobs/{job.id}/cancel",
                "events": f"/jobs/{job.id}/events",
            },
        }
    )


def timestamp(seconds: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _queue(place: QueueEstimate | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {
        "position": place.position,
        "audio_seconds_ahead": place.audio_seconds_ahead,
        "estimated_start_at": timestamp(place.estimated_start_at),
        "estimated_done_at": timestamp(place.estimated_done_at),
    }


def _progress(job: JobRecord) -> dict[str, Any]:
    # A job that waits for another run has done nothing of it, whatever the run before had done.
    done = 0 if job.status is JobState.QUEUED else job.progress["segments_done"]
    total = job.progress["segments_total"]
    stage = "queued" if job.status is JobState.QUEUED else job.progress["stage"]
    ratio = round(done / total, 3) if total else 0.0
    return {"stage": stage, "segments_done": done, "segments_total": total, "ratio": ratio}


MIN_COMPARED, MAX_COMPARED = 2, 100


def _distinct(job_ids: list[str]) -> list[str]:
    if len(set(job_ids)) < len(job_ids):
        raise ValueError("A job is named more than once.")
    return job_ids


def _known_score(name: str) -> str:
    if name not in SCORE_RANGES:
        raise ValueError(f"No such score; there are {', '.join(SCORE_RANGES)}.")
    return name


JobId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
KnownScore = Annotated[str, AfterValidator(_known_score)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CompareRequest(BaseModel):
    """Which jobs to rank, and by what."""

    model_config = ConfigDict(extra="forbid")

    job_ids: Annotated[list[JobId], AfterValidator(_distinct)] = Field(
        min_length=MIN_COMPARED,
        max_length=MAX_COMPARED,
        json_schema_extra={"uniqueItems": True},
        description="Jobs that succeeded under one model version.",
        examples=[["job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a", "job_7a6e5c4d3b2a0f8c8d3e9b5a4c3f8d2b"]],
    )
    criterion: dict[KnownScore, Weight] = Field(
        min_length=1,
        json_schema_extra={"propertyNames": {"enum": list(SCORE_RANGES)}},
        description="What counts as better: a positive weight for each score that matters. Only their ratios count.",
        examples=[{"score_streams": 0.5, "musicality": 0.5}],
    )


class Ranked(BaseModel):
    """One job in a ranking."""

    rank: int = Field(description="1 for the best; jobs too close to tell apart share a rank.")
    job_id: str
    value: float = Field(ge=0, le=1, description="Weighted mean of the scores, each as a share of its range.")
    tied_with_next: bool = Field(description="Whether the next job has the same rank.")


class Delta(BaseModel):
    """By how much one job's scores are above those of the next in the ranking."""

    model_config = ConfigDict(extra="forbid")

    a: str = Field(description="The job that is ranked higher.")
    b: str = Field(description="The job that follows it.")
    score_streams: float | None = Field(None, exclude_if=_absent)
    score_likes: float | None = Field(None, exclude_if=_absent)
    coherence: float | None = Field(None, exclude_if=_absent)
    musicality: float | None = Field(None, exclude_if=_absent)
    memorability: float | None = Field(None, exclude_if=_absent)
    clarity: float | None = Field(None, exclude_if=_absent)
    naturalness: float | None = Field(None, exclude_if=_absent)
    within_noise: list[str] = Field(description="Scores whose difference is no larger than the comparison's `noise`.")


class Comparison(BaseModel):
    """Finished jobs in the order of a criterion. It ranks predictions, not what listeners prefer."""

    object: Literal["comparison"] = "comparison"
    model_version: str = Field(examples=["apex-1.0.0"])
    trained: bool = Field(description="False for the stand-in: the ranking means nothing.")
    criterion: dict[str, float] = Field(description="As it was sent.")
    noise: ScoreMap = Field(
        description="How far another precision, device or decoder may move each score; smaller differences are none.",
        examples=[{"score_streams": 0.2, "musicality": 0.01}],
    )
    tie_band: float = Field(description="Values this close to the best of a rank share it.", examples=[0.0022])
    ranking: list[Ranked] = Field(description="Best first.")
    deltas: list[Delta] = Field(description="Each job against the next, in the scores of the criterion.")
    basis: str = Field(description="What the ranking rests on, in words.")


class BatchCounts(BaseModel):
    """How many items of a batch there are of each kind."""

    total: int
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    rejected: int = Field(0, description="Files that came to no job.")
    expired: int = Field(0, description="Jobs that were deleted, or finished so long ago that they were forgotten.")


class BatchItem(BaseModel):
    """One file of a batch, or one job that joined it: either `job` or `problem` is there."""

    index: int = Field(description="Place in the batch, counted from 0 in the order in which the files were sent.")
    filename: str | None = Field(
        None, exclude_if=_absent, description="As it was sent, in the answer to `POST /batches` only: it is not kept."
    )
    status: int = Field(description="What `POST /score` would answer: 202, 200 once the job is done, or an error's.")
    job: Job | None = Field(None, exclude_if=_absent)
    problem: Problem | None = Field(None, exclude_if=_absent, description="Why there is no job.")


class BatchLinks(BaseModel):
    """Where to go from here."""

    itself: str = Field(alias="self", examples=["/batches/bat_5c4d3b2a0f8c8d3e9b5a4c3f8d2b7a6e"])
    jobs: str = Field(examples=["/jobs?batch_id=bat_5c4d3b2a0f8c8d3e9b5a4c3f8d2b7a6e"])


class Batch(BaseModel):
    """Tracks that were sent together, and what came of each."""

    id: str = Field(examples=["bat_5c4d3b2a0f8c8d3e9b5a4c3f8d2b7a6e"])
    object: Literal["batch"] = "batch"
    done: bool = Field(description="Whether every item is final. A job that joins later makes it false again.")
    batch_external_id: str | None = Field(description="As it was sent.")
    metadata: dict[str, str] = Field(description="As it was sent.")
    created_at: Timestamp
    estimated_done_at: Timestamp | None = Field(
        description="When the last job should be done. Null once all are, and while there is nothing to estimate from."
    )
    counts: BatchCounts
    items: list[BatchItem] = Field(description="In the order of `index`.")
    next_cursor: str | None = Field(description="Send it back as `cursor` for more items. Null on the last page.")
    links: BatchLinks


class BatchQuery(BaseModel):
    """Which items of a batch."""

    limit: int = Field(20, description="Most items in an answer; taken as 1 to 100.")
    cursor: str | None = Field(None, description="The `next_cursor` of the page before.")


class LoadedModel(ModelIdentity):
    """The model that the workers run."""

    scores: RangeMap = Field(description="Scores that it gives, with their ranges.")
    licences: dict[str, str] = Field(default_factory=dict, description="Licence of each part.")


class InputLimits(BaseModel):
    """What a track may be."""

    containers: list[str] = Field(description="Recognised by their first bytes.")
    max_bytes: int
    min_duration_s: float
    max_duration_s: float
    min_sample_rate_hz: int
    max_sample_rate_hz: int
    max_channels: int


class ScoreMeaning(BaseModel):
    """One score in words."""

    range: tuple[float, float]
    meaning: str


class ModelCard(BaseModel):
    """The model, what it takes, and what its numbers mean and do not mean."""

    object: Literal["model"] = "model"
    loaded: LoadedModel | None = Field(description="Null until a worker has started.")
    inputs: InputLimits
    scores: dict[str, ScoreMeaning] = Field(description="Every score that the model family gives.")
    training: str = Field(description="What the model learned from.")
    caveats: list[str] = Field(description="What the scores do not mean.")
    licence: str = Field(description="What the default weights may be used for.")


_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _written_out(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.match(value):
        raise ValueError("Input should be an RFC 3339 time with a zone")
    return value


#: A time that a client sends. A bare number, which Pydantic would take for seconds since 1970, is none.
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class JobFilters(BaseModel):
    """Which jobs are meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: JobState | None = Field(None, description="Only jobs with this status.")
    external_id: ExternalId | None = Field(None, description="Only jobs with this name of the client's.")
    batch_id: Annotated[str, StringConstraints(max_length=MAX_EXTERNAL_ID_CHARS)] | None = Field(
        None, description="Only jobs of this batch."
    )
    created_after: Moment | None = Field(
        None, description="Only jobs made later than this. RFC 3339.", examples=["2026-11-22T00:00:00Z"]
    )
    created_before: Moment | None = Field(
        None, description="Only jobs made earlier than this. RFC 3339.", examples=["2026-11-23T00:00:00Z"]
    )


class JobQuery(JobFilters):
    """Which jobs are meant, and which page of them."""

    limit: int = Field(20, description="Most jobs in an answer; taken as 1 to 100.")
    cursor: str | None = Field(None, description="The `next_cursor` of the page before, for the same filters.")


class ProgressEvent(Progress):
    """Data of a `job.progress` event."""

    eta_s: float | None = Field(description="Seconds until the run is over, by estimate.")


class JobList(BaseModel):
    """A page of jobs, newest first."""

    items: list[Job]
    next_cursor: str | None = Field(
        description="Opaque; send it back as `cursor` with the same filters. Null on the last page. "
        "A page may be short, even empty, before the last: a request looks at a bounded number of jobs."
    )


class QueueDepth(BaseModel):
    """What waits."""

    jobs: int
    audio_seconds: float = Field(description="By estimate: a track's length is known once it is decoded.")


class Capacity(BaseModel):
    """How much waits and how fast it is worked off."""

    object: Literal["capacity"] = "capacity"
    queue: QueueDepth
    jobs_running: int
    workers_alive: int
    audio_seconds_per_second: float | None = Field(description="Of one worker, as measured. Null before the first job.")
    estimated_wait_s: float | None = Field(
        description="Until a track that is sent now would begin to run. Null while no worker runs or none was measured."
    )


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Check(BaseModel):
    """One readiness check. A warning names what is unsafe and does not make the server unready."""

    status: Literal["ok", "warning", "failed"]
    detail: str | None = Field(None, description="Only with `?verbose`, or when something is wrong.")


class Readiness(BaseModel):
    """The server can accept work."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Check]
