"""Errors and correlations of predictions, with 95 % bootstrap intervals over songs. NumPy only.

A resample is a count for each song, so that ranks and sums need no sorting and no copies. A correlation that is not
defined, because values do not vary or songs are too few, is None and never NaN.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats

Measures = dict[str, Any]

MEASURES = ("mse", "mae", "pearson", "spearman")
N_RESAMPLES = 1_000
INTERVAL = (2.5, 97.5)
#: Relative to the mean square: a smaller variance is rounding error, and a correlation of it would be noise.
NO_SPREAD = 1e-12
#: With fewer songs there is no correlation: two always lie on a line.
MIN_SONGS = 3


class Pairs:
    """Targets and predictions of the same songs, shape = (n_songs,) each."""

    def __init__(self, truth: Floats, predicted: Floats) -> None:
        self._values = truth.astype(np.float64), predicted.astype(np.float64)
        errors = self._values[1] - self._values[0]
        self._squares, self._sizes = errors**2, np.abs(errors)
        self._codes = tuple(np.unique(values, return_inverse=True)[1] for values in self._values)

    def measure(self, counts: NDArray[np.int64] | None = None) -> dict[str, float | None]:
        """The four measures over the songs, each taken `counts` times; once each without counts."""
        counts = np.ones(len(self._squares), np.int64) if counts is None else counts
        shares = counts / counts.sum()
        ranks = [mean_ranks(codes, counts) for codes in self._codes]
        return {
            "mse": float(shares @ self._squares),
            "mae": float(shares @ self._sizes),
            "pearson": _correlation(*self._values, shares),
            "spearman": _correlation(ranks[0], ranks[1], shares),
        }

    def measure_with_intervals(self, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Measures:
        """`measure`, and for each a `_ci95` pair from resamples of the songs; [None, None] where it is not defined."""
        n_songs = len(self._values[0])
        rng = np.random.default_rng(seed)
        draws = [self.measure(resample(rng, n_songs)) for _ in range(n_resamples)]
        point = self.measure()
        return {
            key: value
            for name in MEASURES
            for key, value in ((name, point[name]), (f"{name}_ci95", interval([draw[name] for draw in draws])))
        }


def interval(draws: Sequence[float | None]) -> list[float | None]:
    """The 2.5th and the 97.5th percentile of those draws that are defined."""
    defined = [draw for draw in draws if draw is not None]
    return [float(bound) for bound in np.percentile(defined, INTERVAL)] if defined else [None, None]


def resample(rng: np.random.Generator, n_songs: int) -> NDArray[np.int64]:
    """How often each song is in a bootstrap resample, shape = (n_songs,)."""
    return np.bincount(rng.integers(n_songs, size=n_songs), minlength=n_songs)


def mean_ranks(codes: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """The rank of each song when each is repeated `counts` times; ties share their mean rank."""
    sizes = np.bincount(codes, weights=counts)
    ranks: Floats = (np.cumsum(sizes) - (sizes - 1) / 2)[codes]
    return ranks


def _correlation(x: Floats, y: Floats, shares: Floats) -> float | None:
    dx, dy = x - shares @ x, y - shares @ y
    spread_x, spread_y = shares @ dx**2, shares @ dy**2
    if len(x) < MIN_SONGS:
        return None
    if spread_x <= NO_SPREAD * (shares @ x**2) or spread_y <= NO_SPREAD * (shares @ y**2):
        return None
    return max(-1.0, min(1.0, float((shares @ (dx * dy)) / math.sqrt(spread_x * spread_y))))
