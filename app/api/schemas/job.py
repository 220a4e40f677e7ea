"""Jobs: one of them, a page of them, and the query that selects them."""

import re
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, StringConstraints

from app.api.schemas.fields import (
    LIVEMODE,
    MAX_EXTERNAL_ID_CHARS,
    MAX_METADATA_KEY_CHARS,
    MAX_METADATA_KEYS,
    MAX_METADATA_VALUE_CHARS,
    ExternalId,
    SecondsFromNow,
    Timestamp,
    or_else,
)
from app.api.schemas.model import ModelIdentity
from app.api.schemas.problem import Problem
from app.api.schemas.result import Result
from app.core.jobs.models import JobState


class Audio(BaseModel):
    """The track: facts of the upload at once, facts of the decoded audio once known."""

    sha256: str | None = Field(None, description="Of the bytes as they were sent.")
    bytes: int | None = Field(None, description="Size of the file.")
    container: str | None = Field(None, description="From the file's own bytes.", examples=["mp3"])
    codec: str | None = Field(None, examples=["mp3"])
    sample_rate_hz: int | None = Field(None, examples=[44100])
    channels: int | None = Field(None, examples=[2])
    duration_s: float | None = Field(None, description="Counted in decoded samples.", examples=[183.4])
    decoder: Annotated[Literal["ffmpeg", "libsndfile"] | None, or_else(None)] = Field(
        None, description="Which library decoded it: libsndfile does where FFmpeg cannot open the file."
    )


class Progress(BaseModel):
    """How far the run is. Segments of 30 s are counted, not guessed."""

    stage: Annotated[Literal["queued", "fetching", "decoding", "embedding", "scoring"], or_else("embedding")] = Field(
        description="What the run does now, or did last; `fetching` until the track of a job with a URL is there."
    )
    segments_done: int
    segments_total: int | None = Field(description="Null until the track is decoded.")
    ratio: float = Field(ge=0, le=1, description="Share of the segments that are done.")


class ProgressEvent(Progress):
    """Data of a `job.progress` event."""

    eta_s: float | None = Field(description="Seconds until the run is over, by estimate.")


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
    embedding: str | None = Field(None, description="Null unless the job succeeded and was sent with `embedding=true`.")


class QueuePlace(BaseModel):
    """Where a job stands in the queue, and when its turn should come. Estimates, not promises."""

    position: int = Field(description="1 for the next to run.", examples=[3])
    audio_seconds_ahead: float = Field(description="Seconds of audio that wait before it.", examples=[512.0])
    starts_in_s: SecondsFromNow = None
    estimated_start_at: Timestamp | None = Field(description="Null while no worker runs or none was measured.")
    estimated_done_at: Timestamp | None = Field(description="Null while no worker runs or none was measured.")


class Job(BaseModel):
    """One request to score one track, and what came of it."""

    id: str = Field(examples=["job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a"])
    object: Literal["job"] = "job"
    livemode: bool = LIVEMODE
    status: JobState = Field(description="The last three are final: `succeeded`, `failed`, `canceled`.")
    done: bool = Field(description="Whether the status is final.")
    status_reason: Annotated[
        Literal["by_client", "deadline_exceeded", "purged", "waiting_for_model"] | None, or_else(None)
    ] = Field(
        description="Why a canceled job was canceled; `waiting_for_model` while a job waits for a worker of the model "
        "that it asks for."
    )
    external_id: str | None = Field(description="As it was sent.")
    batch_id: str | None = Field(description="The batch that the job belongs to.")
    metadata: dict[str, str] = Field(description="As it was sent.")
    webhook_url: str | None = Field(description="Told of the job's end, if it is one of `webhook_events`.")
    webhook_events: list[str] = Field(description="Empty without a `webhook_url`.")
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


class JobEvent(RootModel[Job | ProgressEvent]):
    """What is in the `data` of an event, as JSON: the progress in a `job.progress`, the whole job in any other."""


class JobList(BaseModel):
    """A page of jobs, newest first."""

    items: list[Job]
    next_cursor: str | None = Field(
        description="Opaque; send it back as `cursor` with the same filters. Null on the last page. "
        "A page may be short, even empty, before the last: a request looks at a bounded number of jobs."
    )


MAX_METADATA_FILTER_CHARS = MAX_METADATA_KEY_CHARS + 1 + MAX_METADATA_VALUE_CHARS
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _require_rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.match(value):
        raise ValueError("Input should be an RFC 3339 time with a zone")
    return value


#: A time that a client sends. A bare number, which Pydantic would take for seconds since 1970, is none.
InputTime = Annotated[AwareDatetime, BeforeValidator(_require_rfc_3339)]


def _is_empty(value: object) -> bool:
    return not value


class JobFilters(BaseModel):
    """Which jobs are meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: JobState | None = Field(None, description="Only jobs with this status.")
    external_id: ExternalId | None = Field(None, description="Only jobs with this name of the client's.")
    batch_id: Annotated[str, StringConstraints(max_length=MAX_EXTERNAL_ID_CHARS)] | None = Field(
        None, description="Only jobs of this batch."
    )
    metadata: list[Annotated[str, StringConstraints(max_length=MAX_METADATA_FILTER_CHARS)]] = Field(
        [],
        max_length=MAX_METADATA_KEYS,
        description="Only jobs with this metadata: `key:value`, where the server keeps an index of the key "
        "(`APEX_INDEXED_METADATA`). Given several times, each must match.",
        exclude_if=_is_empty,  # so that a cursor of before goes on
    )
    created_after: InputTime | None = Field(
        None, description="Only jobs made later than this. RFC 3339, such as `2026-11-22T00:00:00Z`."
    )
    created_before: InputTime | None = Field(
        None, description="Only jobs made earlier than this. RFC 3339, such as `2026-11-22T00:00:00Z`."
    )


class JobQuery(JobFilters):
    """Which jobs are meant, and which page of them."""

    limit: int = Field(20, description="Most jobs in an answer; taken as 1 to 100.")
    cursor: str | None = Field(None, description="The `next_cursor` of the page before, for the same filters.")
