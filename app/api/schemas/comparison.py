"""Comparisons: which jobs to rank by what, and the ranking."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.schemas.fields import ID_FORM
from app.api.schemas.scores import Scores
from model.domain import SCORE_RANGES

MIN_COMPARED, MAX_COMPARED = 2, 100


def _check_distinct(job_ids: list[str]) -> list[str]:
    if len(set(job_ids)) < len(job_ids):
        raise ValueError("A job is named more than once.")
    return job_ids


def _check_score_name(name: str) -> str:
    if name not in SCORE_RANGES:
        raise ValueError(f"No such score; there are {', '.join(SCORE_RANGES)}.")
    return name


JobId = Annotated[str, ID_FORM]
ScoreName = Annotated[str, AfterValidator(_check_score_name)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CompareRequest(BaseModel):
    """Which jobs to rank, and by what."""

    model_config = ConfigDict(extra="forbid")

    job_ids: Annotated[list[JobId], AfterValidator(_check_distinct)] = Field(
        min_length=MIN_COMPARED,
        max_length=MAX_COMPARED,
        json_schema_extra={"uniqueItems": True},
        description="Jobs that succeeded under one model version.",
        examples=[["job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a", "job_7a6e5c4d3b2a0f8c8d3e9b5a4c3f8d2b"]],
    )
    criterion: dict[ScoreName, Weight] = Field(
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


class Delta(Scores):
    """By how much one job's scores are above those of the next in the ranking."""

    model_config = ConfigDict(extra="forbid")

    a: str = Field(description="The job that is ranked higher.")
    b: str = Field(description="The job that follows it.")
    within_noise: list[str] = Field(description="Scores whose difference is no larger than the comparison's `noise`.")


class Comparison(BaseModel):
    """Finished jobs in the order of a criterion. It ranks predictions, not what listeners prefer."""

    object: Literal["comparison"] = "comparison"
    model_version: str = Field(examples=["apex-1.0.0"])
    trained: bool = Field(description="False for the stand-in: the ranking means nothing.")
    criterion: dict[str, float] = Field(description="As it was sent.")
    noise: Scores = Field(
        description="How far another precision, device or decoder may move each score; smaller differences are none.",
        examples=[{"score_streams": 0.2, "musicality": 0.01}],
    )
    tie_band: float = Field(description="Values this close to the best of a rank share it.", examples=[0.0022])
    ranking: list[Ranked] = Field(description="Best first.")
    deltas: list[Delta] = Field(description="Each job against the next, in the scores of the criterion.")
    basis: str = Field(description="What the ranking rests on, in words.")
