"""Ratings of systems from battles between them: Bradley-Terry, by logistic regression, as Music Arena rates them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from model.arrays import Floats
from model.training.metrics import INTERVAL

SCALE, MEAN = 400.0, 1000.0
C = 1.0
N_RESAMPLES = 1_000
MIN_VOTES = 30


@dataclass(frozen=True)
class Rating:
    """A system's rating with its 95 % interval over resampled battles, and the number of its battles."""

    system: str
    rating: float
    low: float
    high: float
    n_votes: int


def rate(
    first: Sequence[str],
    second: Sequence[str],
    won: Floats,
    *,
    min_votes: int = MIN_VOTES,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[Rating]:
    """Ratings with intervals, the best first, of the systems with enough votes.

    won : what the first system got of each battle, shape = (n_battles,): 1, 0, or 0.5 for a tie, which counts as two
          battles of half the weight
    """
    names = sorted({*first, *second})
    index = {name: number for number, name in enumerate(names)}
    pairs = np.array([(index[a], index[b]) for a, b in zip(first, second, strict=True)]).reshape(-1, 2)
    rng = np.random.default_rng(seed)
    draws = [rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs))) for _ in range(n_resamples)]
    point = fit(pairs, won, np.ones(len(pairs)), len(names))
    spread = np.array([fit(pairs, won, draw.astype(np.float64), len(names)) for draw in draws] or [point])
    low, high = np.percentile(spread, INTERVAL, axis=0)
    votes = np.bincount(pairs.ravel(), minlength=len(names))
    rows = [Rating(name, float(point[i]), float(low[i]), float(high[i]), int(votes[i])) for name, i in index.items()]
    return sorted((row for row in rows if row.n_votes >= min_votes), key=lambda row: -row.rating)


def fit(pairs: NDArray[np.int64], won: Floats, weights: Floats, n_systems: int) -> Floats:
    """The rating of each system, shape = (n_systems,), with mean 1000.

    pairs   : the numbers of both systems, shape = (n_battles, 2)
    won     : what the first got of each battle, 0 to 1
    weights : how often each battle counts
    """
    # Battles between the same two systems are summed up, so that a fit takes a millisecond.
    codes, battle = np.unique(pairs[:, 0] * n_systems + pairs[:, 1], return_inverse=True)
    design = np.zeros((len(codes), n_systems))
    design[np.arange(len(codes)), codes // n_systems] += 1
    design[np.arange(len(codes)), codes % n_systems] -= 1
    wins, losses = (np.bincount(battle, weights=weights * share) for share in (won, 1 - won))
    model = LogisticRegression(C=C, fit_intercept=False, solver="newton-cholesky", tol=1e-8)
    outcomes = np.repeat([1, 0], len(codes))
    model.fit(np.concatenate([design, design]), outcomes, sample_weight=np.concatenate([wins, losses]))
    ratings: Floats = SCALE * model.coef_[0] / np.log(10)
    ratings += MEAN - ratings.mean()
    return ratings
