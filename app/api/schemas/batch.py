"""Batches: one of them with a page of its items, and the query that selects the page."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.fields import LIVEMODE, ExternalId, Omissible, SecondsFromNow, Timestamp
from app.api.schemas.job import InputTime, Job
from app.api.schemas.problem import Problem


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
    filename: Omissible[str] = Field(
        None, description="As it was sent, in the answer to `POST /batches` only: it is not kept."
    )
    external_id: Omissible[str] = Field(
        None, description="The client's own name for a track that came to no job; a job has its own."
    )
    status: int = Field(description="What `POST /score` would answer: 202, 200 once the job is done, or an error's.")
    job: Omissible[Job] = None
    problem: Omissible[Problem] = Field(None, description="Why there is no job.")


class BatchLinks(BaseModel):
    """Where to go from here."""

    itself: str = Field(alias="self", examples=["/batches/bat_5c4d3b2a0f8c8d3e9b5a4c3f8d2b7a6e"])
    jobs: str = Field(examples=["/jobs?batch_id=bat_5c4d3b2a0f8c8d3e9b5a4c3f8d2b7a6e"])


class Batch(BaseModel):
    """Tracks that were sent together, and what came of each."""

    id: str = Field(examples=["bat_5c4d3b2a0f8c8d3e9b5a4c3f8d2b7a6e"])
    object: Literal["batch"] = "batch"
    livemode: bool = LIVEMODE
    done: bool = Field(description="Whether every item is final. A job that joins later makes it false again.")
    batch_external_id: str | None = Field(description="As it was sent.")
    metadata: dict[str, str] = Field(description="As it was sent.")
    webhook_url: str | None = Field(description="Told of the `webhook_events`.")
    webhook_events: list[str] = Field(description="Empty without a `webhook_url`.")
    created_at: Timestamp
    estimated_done_at: Timestamp | None = Field(
        description="When the last job should be done. Null once all are, and while there is nothing to estimate from."
    )
    done_in_s: SecondsFromNow = None
    counts: BatchCounts
    items: list[BatchItem] = Field(description="In the order of `index`.")
    next_cursor: str | None = Field(description="Send it back as `cursor` for more items. Null on the last page.")
    links: BatchLinks


class BatchQuery(BaseModel):
    """Which items of a batch."""

    limit: int = Field(20, description="Most items in an answer; taken as 1 to 100.")
    cursor: str | None = Field(None, description="The `next_cursor` of the page before.")


class BatchFilters(BaseModel):
    """Which batches are meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_external_id: ExternalId | None = Field(None, description="Only batches with this name of the client's.")
    done: bool | None = Field(None, description="Only batches that have no unfinished job, or only those that have.")
    created_after: InputTime | None = Field(None, description="Only batches made later than this. RFC 3339.")
    created_before: InputTime | None = Field(None, description="Only batches made earlier than this. RFC 3339.")


class BatchListQuery(BatchFilters):
    """Which batches are meant, and which page of them."""

    limit: int = Field(20, description="Most batches in an answer; taken as 1 to 100.")
    cursor: str | None = Field(None, description="The `next_cursor` of the page before, for the same filters.")


class BatchList(BaseModel):
    """A page of batches, newest first, without their items."""

    items: list[Batch]
    next_cursor: str | None = Field(
        description="Opaque; send it back as `cursor` with the same filters. Null on the last page. "
        "A page may be short, even empty, before the last: a request looks at a bounded number of batches."
    )
