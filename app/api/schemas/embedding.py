"""The embedding of a job's track."""

from typing import Literal

from pydantic import BaseModel, Field


class LayerMix(BaseModel):
    """The weighted sum that makes one hidden state of several."""

    weights: list[float] = Field(description="One for each of `hidden_states`.")
    bias: float


class EmbeddingProvenance(BaseModel):
    """What the values depend on. Compare embeddings of equal provenance only."""

    encoder: str = Field(
        description="Repository and revision, or the hash of its weights.", examples=["m-a-p/MERT-v1-95M"]
    )
    preprocessing: str = Field(examples=["mono-24k-30s-v1"])
    hidden_states: list[int] = Field(
        description="The encoder's hidden states that are used, each averaged over the frames of a segment; 0 is its "
        "input.",
        examples=[[2, 5, 8, 12]],
    )
    layer_mix: LayerMix
    engine: str = Field(description="Library that ran the encoder: moves the last digits.", examples=["torch"])
    precision: str = Field(examples=["fp32"])


class Embedding(BaseModel):
    """The vector that the head took for the track.

    Four hidden states of the encoder, each averaged over the frames of a segment, are mixed into one, and that is
    averaged over the segments. Nothing is normalised.
    """

    object: Literal["embedding"] = "embedding"
    job_id: str = Field(examples=["job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a"])
    dtype: Literal["float32"] = "float32"
    dimension: int = Field(examples=[768])
    values: list[float] = Field(description="Each with the nine digits that tell every float32 from the next.")
    base64: str = Field(description="The same values as little-endian float32 in base64.")
    n_segments: int = Field(description="Segments of 30 s whose embeddings were averaged, the last however short.")
    provenance: EmbeddingProvenance
