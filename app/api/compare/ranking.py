"""Ranking: finished jobs compared by a criterion that the caller states. Pure functions on stored scores.

The scores are predictions of one model, and differences too small to mean anything are marked as noise. Arithmetic is
exact, on the decimals that clients see, so that neither the order of the jobs nor the scale of the weights decides a
tie.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from app.api.schemas.comparison import Comparison
from app.core.jobs.models import Job, JobState
from app.core.json_types import Json
from app.core.problems import Problem, validation_problem
from model.domain import SCORE_RANGES, SCORE_TOLERANCES

DECIMALS = 4

BASIS = (
    "Ranks predicted scores of one model version, which was trained on AI-generated music. It does not predict which "
    "track listeners prefer; see GET /model. Each score is taken as a share of its range and the shares are averaged "
    "by weight. Tracks whose value is within tie_band of the best of their rank share the rank: that much another "
    "precision, device or decoder may move it, and the model's own error is far larger."
)
UNTRAINED_BASIS = f"The model is untrained: its scores, and so this ranking, mean nothing. {BASIS}"

ZERO = Fraction(0)


def exact(number: float) -> Fraction:
    """The decimal number as it is written, not the binary number nearest to it."""
    return Fraction(str(number))


TOLERANCES = {name: exact(tolerance) for name, tolerance in SCORE_TOLERANCES.items()}
BOUNDS = {name: (exact(low), exact(high)) for name, (low, high) in SCORE_RANGES.items()}

Shares = Mapping[str, Fraction]


@dataclass(frozen=True)
class RankedJob:
    """A finished job: its scores that the criterion names, and their weighted mean."""

    id: str
    scores: Mapping[str, Fraction]
    value: Fraction


def compare(jobs: Sequence[Job], criterion: Mapping[str, float]) -> Comparison:
    """Rank jobs, best first, by the weighted mean of some of their scores.

    Raises `jobs_not_comparable` unless all succeeded under one model, `validation_error` for a score that it lacks.
    """
    model = common_model(jobs)
    check_scores_present(jobs[0], criterion)
    shares = shares_of(criterion)
    band = tie_band(shares)
    # Equal values are ordered by id, so that the same jobs always come in the same order.
    tracks = sorted((ranked_job(job, shares) for job in jobs), key=lambda track: (-track.value, track.id))
    return Comparison.model_validate(
        {
            "model_version": model["version"],
            "trained": model["trained"],
            "criterion": dict(criterion),
            "noise": {name: SCORE_TOLERANCES[name] for name in criterion},
            "tie_band": rounded(band),
            "ranking": ranking(tracks, band),
            "deltas": [delta(a, b) for a, b in pairwise(tracks)],
            "basis": BASIS if model["trained"] else UNTRAINED_BASIS,
        }
    )


def common_model(jobs: Sequence[Job]) -> Json:
    """The model that scored every job."""
    unscored = [reason(job, f"The job is {job.status}.") for job in jobs if job.status is not JobState.SUCCEEDED]
    if unscored:
        raise Problem("jobs_not_comparable", "Some of the jobs have no scores.", jobs=unscored)
    models = [job.model or {} for job in jobs]
    if len({(model["version"], model.get("checkpoint_sha256")) for model in models}) > 1:
        mixed = [reason(job, f"Scored by {model['version']}.") for job, model in zip(jobs, models, strict=True)]
        raise Problem("jobs_not_comparable", "The jobs were scored by different models.", jobs=mixed)
    return models[0]


def check_scores_present(job: Job, criterion: Iterable[str]) -> None:
    """Raise `validation_error` for a score that the model does not give: one for popularity alone gives two."""
    available = scores_of(job)
    unknown = [name for name in criterion if name not in available]
    if unknown:
        detail = f"The model that scored these jobs gives {', '.join(available)}."
        raise validation_problem((("criterion", name), detail) for name in unknown)


def shares_of(criterion: Mapping[str, float]) -> Shares:
    """Each score's share in the mean. The shares sum up to one, whatever the weights sum up to."""
    weights = {name: exact(weight) for name, weight in criterion.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def ranked_job(job: Job, shares: Shares) -> RankedJob:
    """A job with its scores and their weighted mean; for the mean each score is scaled to 0 to 1 by its range."""
    scores = {name: exact(scores_of(job)[name]) for name in shares}
    return RankedJob(job.id, scores, sum((share * scaled(name, scores[name]) for name, share in shares.items()), ZERO))


def tie_band(shares: Shares) -> Fraction:
    """How far the value moves when each score moves by its own tolerance."""
    return sum((share * scaled(name, BOUNDS[name][0] + TOLERANCES[name]) for name, share in shares.items()), ZERO)


def ranks_of(values: Iterable[Fraction], band: Fraction) -> list[int]:
    """Ranks of descending values, counted 1, 2, 2, 4.

    Values within `band` of the first of a rank share it. So ties do not chain from the best to the worst.
    """
    ranks: list[int] = []
    best = ZERO
    for index, value in enumerate(values, 1):
        tied = bool(ranks) and best - value <= band
        ranks.append(ranks[-1] if tied else index)
        best = best if tied else value
    return ranks


def ranking(tracks: Sequence[RankedJob], band: Fraction) -> list[Json]:
    ranks = ranks_of([track.value for track in tracks], band)
    return [
        {"rank": rank, "job_id": track.id, "value": rounded(track.value), "tied_with_next": rank == following}
        for track, rank, following in zip(tracks, ranks, [*ranks[1:], None], strict=True)
    ]


def delta(a: RankedJob, b: RankedJob) -> Json:
    """By how much the first track's scores are above the second's, and which of these differences are noise."""
    differences = {name: score - b.scores[name] for name, score in a.scores.items()}
    noise = [name for name, difference in differences.items() if abs(difference) <= TOLERANCES[name]]
    shown = {name: rounded(difference) for name, difference in differences.items()}
    return {"a": a.id, "b": b.id, **shown, "within_noise": noise}


def scores_of(job: Job) -> Mapping[str, float]:
    scores: Mapping[str, float] = (job.result or {})["scores"]
    return scores


def scaled(name: str, score: Fraction) -> Fraction:
    low, high = BOUNDS[name]
    return (score - low) / (high - low)


def rounded(number: Fraction) -> float:
    return round(float(number), DECIMALS)


def reason(job: Job, detail: str) -> Json:
    return {"job_id": job.id, "detail": detail}
