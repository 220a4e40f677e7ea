"""What the model says of one track beside its scores: of each segment, between them, and against other tracks."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
#: Embeddings, shape = (n, dim), to the n values of each score.
HeadFunction = Callable[[Embeddings], Mapping[str, NDArray[np.float32]]]

N_RESAMPLES = 200
#: Share of the resamples whose scores lie within a spread.
SPREAD_LEVEL = 0.9
N_DECIMALS = 4


@dataclass(frozen=True)
class TrackEmbedding:
    """The values that the head took for a track, shape = (dim,), with all that they depend on; ready for JSON."""

    values: Embeddings
    n_segments: int
    provenance: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """The values as little-endian float32 in base64."""
        encoded = base64.b64encode(self.values.astype("<f4").tobytes()).decode()
        return {"float32": encoded, "n_segments": self.n_segments, "provenance": dict(self.provenance)}


@dataclass(frozen=True)
class TrackAnalysis:
    """The scores of a track, and what stands beside them.

    segment_scores : by score, the head's answer to each segment's embedding, in order. Their mean is not the score.
    spread : by score, the bounds of its variation between segments; None for a track of one segment
    percentiles : by score, the share of a reference's tracks that score lower, 0 to 100; None without a reference
    """

    scores: Mapping[str, float]
    segment_scores: Mapping[str, Sequence[float]]
    spread: Mapping[str, tuple[float, float]] | None
    percentiles: Mapping[str, float] | None
    embedding: TrackEmbedding


def mean_embedding(embeddings: Embeddings) -> Embeddings:
    """The embedding of a track, shape = (dim,): the plain mean of its segments'."""
    mean: Embeddings = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def spread_of(embeddings: Embeddings, head: HeadFunction) -> dict[str, tuple[float, float]] | None:
    """Between which values 90 % of a track's scores lie when its segments are drawn anew, as many, with replacement.

    It tells how much the track varies from segment to segment, and nothing of the model's error. The draws depend on
    the number of segments alone, so the same track has the same spread wherever it is scored. None for one segment.
    """
    n_segments = len(embeddings)
    if n_segments == 1:
        return None
    means = (_resample_weights(n_segments) @ embeddings.astype(np.float64)).astype(np.float32)
    tail = (1 - SPREAD_LEVEL) / 2
    bounds = {name: np.quantile(values, (tail, 1 - tail)) for name, values in head(means).items()}
    return {
        name: (round(float(low), N_DECIMALS), round(float(high), N_DECIMALS)) for name, (low, high) in bounds.items()
    }


def _resample_weights(n_segments: int) -> NDArray[np.float64]:
    """How much each segment counts in each resample, shape = (N_RESAMPLES, n_segments); every row sums up to 1."""
    # The raw output of a bit generator, because NumPy may change what its distributions make of it.
    drawn = np.random.PCG64(n_segments).random_raw(N_RESAMPLES * n_segments) % np.uint64(n_segments)
    draws = drawn.astype(np.intp).reshape(N_RESAMPLES, n_segments)
    return np.stack([np.bincount(draw, minlength=n_segments) for draw in draws]) / n_segments
