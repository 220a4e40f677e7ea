"""The APEX head: from a song's embedding to its scores. Also the layer mix before it, which the reference never saves.

Knows nothing of audio and of files.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.domain import SCORE_RANGES, TASK_SCORES

SHARED_DROPOUT = 0.3
BRANCH_DROPOUT = 0.1
#: Published sizes of the shared layers, by their number.
SHARED_DIMS = {2: (512, 256), 3: (512, 384, 256)}
BRANCH_DIMS = (128, 64)
EMBEDDING_DIM = 768
#: Beyond any head that could be trained; keeps a forged header from asking torch for absurd shapes.
MAX_DIM = 1 << 16


@dataclass(frozen=True)
class HeadConfig:
    """Everything that fixes the shapes of a head."""

    task: str = "full"
    input_dim: int = EMBEDDING_DIM
    shared_dims: tuple[int, ...] = SHARED_DIMS[2]
    branch_dims: tuple[int, ...] = BRANCH_DIMS

    def __post_init__(self) -> None:
        if self.task not in tuple(TASK_SCORES):
            raise ValueError(f"no such task: {self.task!r}")
        dims = (self.input_dim, *self.shared_dims, *self.branch_dims)
        if not (
            self.shared_dims and self.branch_dims and all(type(dim) is int and 1 <= dim <= MAX_DIM for dim in dims)
        ):
            raise ValueError(f"sizes of layers are whole numbers from 1 to {MAX_DIM}, not {dims}")

    @property
    def score_names(self) -> tuple[str, ...]:
        return TASK_SCORES[self.task]


@dataclass(frozen=True)
class LayerMix:
    """Weighted sum of MERT's four hidden states: the reference's `Conv1d(4, 1, 1)`, written down."""

    weights: tuple[float, ...]
    bias: float

    def __post_init__(self) -> None:
        if len(self.weights) != 4 or not all(map(math.isfinite, (*self.weights, self.bias))):
            raise ValueError("the layer mix is four finite weights and a finite bias")

    def __call__(self, states: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, 4, dim) to (n, dim), in float64."""
        return np.asarray(self.weights, np.float64) @ states.astype(np.float64) + self.bias


#: What the reference draws from torch.manual_seed(42) each time it starts. The head was trained behind these numbers.
DEFAULT_LAYER_MIX = LayerMix(
    weights=(0.3822692632675171, 0.4150039553642273, -0.11713624000549316, 0.45930564403533936),
    bias=-0.10955178737640381,
)


class Block(nn.Module):
    """Linear, BatchNorm, GELU, Dropout; (n, n_in) to (n, n_out)."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.GELU(), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.block(x)
        return y


class Branch(nn.Module):
    """One score from the shared features: (n, n_in) to (n,), within the score's range."""

    def __init__(self, n_in: int, dims: tuple[int, ...], score_range: tuple[float, float]) -> None:
        super().__init__()
        self.branch = nn.Sequential(*_blocks((n_in, *dims), BRANCH_DROPOUT), nn.Linear(dims[-1], 1))
        self.low, self.high = score_range

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.branch(x)).squeeze(1) * (self.high - self.low) + self.low


class ApexHead(nn.Module):
    """Scores of song embeddings. The names in its state_dict are those of the published checkpoints."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Sequential(*_blocks((config.input_dim, *config.shared_dims), SHARED_DROPOUT))
        for name in config.score_names:
            self.add_module(branch_name(name), Branch(config.shared_dims[-1], config.branch_dims, SCORE_RANGES[name]))

    def forward(self, embeddings: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, input_dim) to one (n,) for each score of the task, in its own range, not rounded."""
        features = self.shared(embeddings)
        return {name: self.get_submodule(branch_name(name))(features) for name in self.config.score_names}


def _blocks(dims: tuple[int, ...], dropout: float) -> Iterator[Block]:
    return (Block(n_in, n_out, dropout) for n_in, n_out in zip(dims, dims[1:], strict=False))


def branch_name(score_name: str) -> str:
    """The module of a score in an `ApexHead`."""
    return f"branch_{score_name}"
