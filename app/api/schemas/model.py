"""The model: what exactly gave the scores, what it takes, and what its numbers mean."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.schemas.fields import or_else
from app.api.schemas.result import ReferenceDistribution
from app.api.schemas.scores import Ranges, ScoreMeanings


class ModelIdentity(BaseModel):
    """What exactly gave the scores."""

    name: str = Field(examples=["apex"])
    version: str = Field(examples=["apex-1.0.0"])
    trained: bool = Field(description="False for the stand-in: its scores mean nothing.")
    checkpoint_sha256: str | None = Field(None, description="Of the head's weights.")
    encoder: str | None = Field(None, examples=["m-a-p/MERT-v1-95M"])
    preprocessing: str | None = Field(None, examples=["mono-24k-30s-v1"])
    training_unit: Annotated[Literal["song", "segment"] | None, or_else(None)] = Field(
        None, description="What the head learned to score: songs, or segments of 30 s."
    )
    engine: str | None = Field(None, description="Library that runs the encoder.", examples=["torch"])
    device: str | None = Field(None, examples=["cuda"])
    precision: str | None = Field(None, description="What the encoder computed in.", examples=["fp32"])
    precision_deviation: dict[str, float] = Field(
        default_factory=dict,
        description="By how much each score moved at most, against fp32, when the worker scored its probe in this "
        "precision at its start. Empty in fp32.",
        examples=[{}],
    )


class LoadedModel(ModelIdentity):
    """The model that the workers run."""

    scores: Ranges = Field(description="Scores that it gives, with their ranges.")
    licences: dict[str, str] = Field(default_factory=dict, description="Licence of each part.")
    reference: ReferenceDistribution | None = Field(
        None, description="The tracks that `percentiles` of a result compare with; null without them."
    )


class InputLimits(BaseModel):
    """What a track may be."""

    containers: list[str] = Field(description="Recognised by their first bytes.")
    max_bytes: int
    min_duration_s: float
    max_duration_s: float
    min_sample_rate_hz: int
    max_sample_rate_hz: int
    max_channels: int


class ModelCard(BaseModel):
    """The model, what it takes, and what its numbers mean and do not mean."""

    object: Literal["model"] = "model"
    loaded: LoadedModel | None = Field(description="Of the worker that started last. Null until one has started.")
    versions: list[str] = Field(
        description="Versions of the models that workers run now: several in an upgrade. `GET /capacity` counts them."
    )
    inputs: InputLimits
    scores: ScoreMeanings = Field(description="Every score that the model family gives.")
    training: str = Field(description="What the model learned from.")
    caveats: list[str] = Field(description="What the scores do not mean.")
    licence: str = Field(description="What the default weights may be used for.")
