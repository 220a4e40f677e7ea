"""What a client may say about a track or a batch, beside the files."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.api.schemas.fields import ID_FORM, MAX_MODEL_VERSION_CHARS, ExternalId, Metadata


class TrackOptions(BaseModel):
    """What a client may say about a track: form fields beside the file, or query parameters beside a raw body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    external_id: ExternalId | None = Field(
        None, description="The client's own name for the track; comes back unchanged."
    )
    metadata: Metadata = Field(default_factory=dict)
    model_version: Annotated[str, StringConstraints(min_length=1, max_length=MAX_MODEL_VERSION_CHARS)] | None = Field(
        None,
        description="Have the track scored by this model; it is refused unless a worker runs it, see `GET /capacity`.",
    )
    batch_id: Annotated[str, ID_FORM] | None = Field(
        None,
        description="Add the job to this batch, which `POST /batches` made.",
    )


class BatchOptions(BaseModel):
    """What a client may say about a batch: form fields beside its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_external_id: ExternalId | None = Field(
        None, description="The client's own name for the batch; comes back unchanged."
    )
    metadata: Metadata = Field(default_factory=dict)
    model_version: Annotated[str, StringConstraints(min_length=1, max_length=MAX_MODEL_VERSION_CHARS)] | None = Field(
        None,
        description="Have the tracks scored by this model; they are refused unless a worker runs it.",
    )
