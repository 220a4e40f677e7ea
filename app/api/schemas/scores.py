"""What is told for each score, by name: the scores themselves, their ranges, their meanings."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field

from app.api.schemas.fields import Omissible

T = TypeVar("T")

#: Lowest and highest value.
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class PerScore(BaseModel, Generic[T]):
    """A value for each score of `SCORE_RANGES`; one that the model does not give is left out."""

    score_streams: Omissible[T] = None
    score_likes: Omissible[T] = None
    coherence: Omissible[T] = None
    musicality: Omissible[T] = None
    memorability: Omissible[T] = None
    clarity: Omissible[T] = None
    naturalness: Omissible[T] = None


class Scores(PerScore[float]):
    """A number for each score; `GET /model` says what they mean. A model for popularity alone gives the first two."""


class Ranges(PerScore[Range]):
    """Lowest and highest value that each score can take."""


class ScoreMeaning(BaseModel):
    """One score in words."""

    range: Range
    meaning: str


class ScoreMeanings(PerScore[ScoreMeaning]):
    """Each score in words."""
