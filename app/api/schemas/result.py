"""What a job that succeeded has to tell: its scores, and on request how they vary and where they come from."""

from typing import Literal

from pydantic import BaseModel, Field

from app.api.schemas.scores import PerScore, Range, Ranges, Scores


class AudioWarning(BaseModel):
    """Something odd about a file that was scored all the same. More codes may be added."""

    code: str = Field(
        description="`declared_length_differs`, `timestamp_gaps`, `other_streams_ignored`, `trailing_data_ignored`, "
        "`joined_streams`, `end_mark_missing`, `packets_skipped` or `last_segment_short`.",
        examples=["packets_skipped"],
    )
    detail: str = Field(
        description="A sentence for people.", examples=["3 packet(s) did not decode and were left out."]
    )


class Segment(BaseModel):
    """What the head says of 30 s of the track alone."""

    start_s: float = Field(examples=[0.0])
    end_s: float = Field(description="Of the sound; the last segment is padded to 30 s.", examples=[30.0])
    scores: Scores


class Basis(BaseModel):
    """What the scores of segments are, and what they are not."""

    training_unit: Literal["song", "segment"] = Field(description="What the head learned to score.")
    last_segment_s: float = Field(description="Seconds of sound in the last segment.", examples=[3.4])
    detail: str = Field(description="The same in sentences for people.")


class Spread(PerScore[Range]):
    """For each score the bounds within which it would lie, had the track other segments of its own kind.

    It is variation between the segments of this track, and not the error of the model, which is larger.
    """

    method: Literal["segment_bootstrap"] = Field(description="The track's segments are drawn anew, with replacement.")
    level: float = Field(description="Share of the draws whose score lies between the bounds.", examples=[0.9])


class ReferenceDistribution(BaseModel):
    """The tracks that percentiles compare with."""

    name: str = Field(examples=["A catalogue"])
    date: str = Field(json_schema_extra={"format": "date"}, examples=["2026-11-27"])
    n_tracks: int = Field(examples=[12000])


class Percentiles(PerScore[float]):
    """For each score the share of the reference's tracks that score lower, 0 to 100."""

    reference: ReferenceDistribution


class Result(BaseModel):
    """The scores. Every score of the loaded model is there: seven, or two when it knows only popularity."""

    scores: Scores = Field(
        description="Score by name, with four decimals.",
        examples=[{"score_streams": 61.4213, "score_likes": 48.0687, "coherence": 3.8142, "musicality": 3.6603}],
    )
    ranges: Ranges
    warnings: list[AudioWarning] = Field(default=[], description="What is odd about the file; empty for most.")
    percentiles: Percentiles | None = Field(
        None, description="Null unless the workers' weights have a reference distribution."
    )
    segments: list[Segment] | None = Field(None, description="Null unless the job was sent with `segments=true`.")
    basis: Basis | None = Field(None, description="How to read `segments`; null without them.")
    spread: Spread | None = Field(None, description="Beside `segments`; null for a track of one segment.")
