"""Losses: how the errors of the tasks are combined into the number that training minimises."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from model.domain import TASK_SCORES

POPULARITY_WEIGHT = 5.0


class WeightedLoss(nn.Module):
    """A sum of the tasks' errors with fixed weights; (n_tasks,) to a scalar."""

    weights: torch.Tensor

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, errors: torch.Tensor) -> torch.Tensor:
        return (self.weights * errors).sum()

    def sigmas(self) -> list[float] | None:
        """No task has a learnt uncertainty."""
        return None

    def task_weights(self) -> list[float]:
        """What each error is multiplied by."""
        return [float(weight) for weight in self.weights]


class UncertaintyLoss(nn.Module):
    """Weights that are learnt (Kendall et al. 2018): the sum of L / (2 exp(s)²) + s, with s = ln σ; scalar."""

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.log_sigmas = nn.Parameter(torch.zeros(n_tasks))

    def forward(self, errors: torch.Tensor) -> torch.Tensor:
        return (errors / (2 * torch.exp(self.log_sigmas) ** 2) + self.log_sigmas).sum()

    def sigmas(self) -> list[float] | None:
        """σ of each task: about the root of its mean squared error, once it has been learnt."""
        return [float(sigma) for sigma in self.log_sigmas.detach().exp()]

    def task_weights(self) -> list[float]:
        """What each error is multiplied by: 1 / (2σ²)."""
        return [float(weight) for weight in 0.5 * torch.exp(-2 * self.log_sigmas.detach())]


Loss = WeightedLoss | UncertaintyLoss


def _popularity_first(names: Sequence[str]) -> WeightedLoss:
    return WeightedLoss([POPULARITY_WEIGHT if name in TASK_SCORES["popularity"] else 1.0 for name in names])


#: How the errors of the named tasks are combined.
LOSSES: dict[str, Callable[[Sequence[str]], Loss]] = {
    "uncertainty": lambda names: UncertaintyLoss(len(names)),
    "equal": lambda names: WeightedLoss([1.0] * len(names)),
    "weighted": _popularity_first,
}


def task_errors(predicted: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    """The mean squared error of each task, in the units of its scale.

    predicted : one (n,) a task, in the order of the columns of targets, shape = (n, n_tasks)
    returns (n_tasks,)
    """
    return (torch.stack(list(predicted.values()), dim=1) - targets).square().mean(dim=0)
