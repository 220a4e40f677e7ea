"""Baselines: the mean of the training songs, and ridge regression on their embeddings."""

from collections.abc import Iterator

import numpy as np

from model.arrays import Floats
from model.training.embeddings import CHUNK_ROWS, Packed

#: Penalties that ridge chooses from, by the error on the validation songs, in standardised embeddings.
PENALTIES = tuple(10.0**power for power in range(-2, 7))


def mean(train: Packed) -> Floats:
    """The mean target of the training songs, shape = (n_tasks,)."""
    return np.asarray(train.songs.targets.mean(axis=0, dtype=np.float64))


class Ridge:
    """Ridge regression on standardised embeddings, with an intercept that is not penalised.

    train : packed in mode song; read piece by piece, so that it may be larger than memory
    """

    def __init__(self, train: Packed) -> None:
        n_rows = len(train.vectors)
        self._center = sum((x.sum(axis=0) for x, _ in _pieces(train)), np.zeros(train.dim)) / n_rows
        gram, cross = np.zeros((train.dim, train.dim)), np.zeros((train.dim, train.songs.targets.shape[1]))
        self._intercept = mean(train)
        for x, y in _pieces(train):
            x -= self._center
            gram += x.T @ x
            cross += x.T @ (y - self._intercept)
        self._scale = np.sqrt(np.diag(gram) / n_rows)
        self._scale[self._scale == 0] = 1.0
        self._axes, self._vectors = np.linalg.eigh(gram / np.outer(self._scale, self._scale))
        self._cross = self._vectors.T @ (cross / self._scale[:, None])

    def weights(self, penalty: float) -> Floats:
        """The weights of the standardised embeddings, shape = (dim, n_tasks)."""
        solved: Floats = self._vectors @ (self._cross / (np.maximum(self._axes, 0) + penalty)[:, None])
        return solved

    def predict(self, data: Packed, penalty: float) -> Floats:
        """The targets of the songs of a split in mode song, shape = (n_songs, n_tasks)."""
        weights = self.weights(penalty)
        parts = [(x - self._center) / self._scale @ weights + self._intercept for x, _ in _pieces(data)]
        return np.concatenate(parts)

    def best_penalty(self, val: Packed) -> float:
        """The penalty with the lowest error on a split, each task counted in units of its own variance."""
        variance = val.songs.targets.var(axis=0, dtype=np.float64) + 1e-12
        errors = [
            (np.square(self.predict(val, p) - val.songs.targets).mean(axis=0) / variance).sum() for p in PENALTIES
        ]
        return PENALTIES[int(np.argmin(errors))]


def _pieces(data: Packed) -> Iterator[tuple[Floats, Floats]]:
    for start in range(0, len(data.vectors), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        yield data.vectors[part].astype(np.float64), data.songs.targets[part].astype(np.float64)
