"""What a client may say about a track or a batch, beside the files or instead of them."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from app.api.schemas.fields import ID_FORM, MAX_MODEL_VERSION_CHARS, ExternalId, Flag, Metadata, MetadataObject
from app.core.jobs.models import MAX_BATCH_ITEMS
from app.core.webhooks.models import BATCH_EVENT, JOB_EVENTS

MAX_URL_CHARS = 2048

WebhookUrl = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]
JobEvent = Literal["job.succeeded", "job.failed", "job.canceled"]
BatchEvent = Literal[JobEvent, "batch.completed"]
MAX_AUDIO_URL_CHARS = 4096

AudioUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_AUDIO_URL_CHARS),
    Field(
        description="From where the track is fetched: an `https` URL in ASCII on a host that the server's operator "
        "allows. It may be signed: it is in no answer, event or log, and is forgotten once the track is there.",
        examples=["https://cdn.example.com/tracks/9931.flac"],
    ),
]


def _split(value: object) -> object:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


#: Types of events as a text with commas, which forms and queries can carry.
_AS_TEXT = BeforeValidator(_split), WithJsonSchema({"type": "string"})
JobEvents = Annotated[tuple[JobEvent, ...], *_AS_TEXT]
BatchEvents = Annotated[tuple[BatchEvent, ...], *_AS_TEXT]

ModelVersion = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MODEL_VERSION_CHARS)]
WithSegments = Annotated[
    Flag, Field(description="Have the result tell the scores of each 30 s, with `basis` and `spread`.")
]


class WebhookOptions(BaseModel):
    """Who is to be told of what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook_url: WebhookUrl | None = Field(
        None, description="Told of events by a signed `POST`, where the server's operator allows its host."
    )

    @field_validator("webhook_events", check_fields=False)
    @classmethod
    def require_url(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("webhook_url") is None:
            raise ValueError("There is no webhook_url to tell of events")
        return value


class TrackOptions(WebhookOptions):
    """What a client may say about a track: form fields beside the file, or query parameters beside a raw body."""

    external_id: ExternalId | None = Field(
        None, description="The client's own name for the track; comes back unchanged."
    )
    metadata: Metadata = Field(default_factory=dict)
    model_version: ModelVersion | None = Field(
        None,
        description="Have the track scored by this model; it is refused unless a worker runs it, see `GET /capacity`.",
    )
    segments: WithSegments = False
    embedding: Flag = Field(
        False,
        description="Keep the embedding of the track for `GET /jobs/{id}/embedding`; asks for the scope "
        "`embeddings:read`.",
    )
    batch_id: Annotated[str, ID_FORM] | None = Field(
        None,
        description="Add the job to this batch, which `POST /batches` made.",
    )
    webhook_events: JobEvents | None = Field(
        None,
        description="Which ends of the job are told, such as `job.succeeded,job.failed`; all three by default.",
    )

    @property
    def events(self) -> tuple[str, ...]:
        """What the URL is told of."""
        return (self.webhook_events or JOB_EVENTS) if self.webhook_url else ()


class BatchOptions(WebhookOptions):
    """What a client may say about a batch: form fields beside its files."""

    batch_external_id: ExternalId | None = Field(
        None, description="The client's own name for the batch; comes back unchanged."
    )
    metadata: Metadata = Field(default_factory=dict)
    model_version: ModelVersion | None = Field(
        None,
        description="Have the tracks scored by this model; they are refused unless a worker runs it.",
    )
    segments: WithSegments = False
    embedding: Flag = Field(
        False,
        description="Keep the embedding of each track for `GET /jobs/{id}/embedding`; asks for the scope "
        "`embeddings:read`.",
    )
    webhook_events: BatchEvents | None = Field(
        None,
        description="What is told, such as `batch.completed,job.failed`; only that the batch is complete by default.",
    )

    @property
    def events(self) -> tuple[str, ...]:
        """What the URL is told of."""
        return (self.webhook_events or (BATCH_EVENT,)) if self.webhook_url else ()

    def for_track(self, batch_id: str) -> TrackOptions:
        """The options of each of its tracks."""
        events = tuple(event for event in self.events if event in JOB_EVENTS)
        url = self.webhook_url if events else None
        return TrackOptions(
            batch_id=batch_id,
            model_version=self.model_version,
            segments=self.segments,
            embedding=self.embedding,
            webhook_url=url,
            webhook_events=events or None,
        )


class UrlTrack(TrackOptions):
    """A track to fetch, and what a client may say about it."""

    url: AudioUrl = Field(repr=False)
    metadata: MetadataObject = Field(default_factory=dict)


class UrlItem(BaseModel):
    """A track of a batch to fetch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: AudioUrl = Field(repr=False)
    external_id: ExternalId | None = Field(
        None, description="The client's own name for the track; comes back unchanged."
    )
    metadata: MetadataObject = Field(default_factory=dict)


class UrlBatch(BatchOptions):
    """Tracks to fetch, and what a client may say about their batch."""

    metadata: MetadataObject = Field(default_factory=dict)
    # Each is looked at on its own, so that a wrong one leaves the others as they are.
    items: list[Any] = Field(
        min_length=1,
        max_length=MAX_BATCH_ITEMS,
        description="The tracks, in the order of their `index` in the batch.",
        exclude=True,
        repr=False,
    )
