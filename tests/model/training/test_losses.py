"""The losses are those of the reference's text, computed a second time by hand."""

import math

import pytest
import torch

from model.domain import TASK_SCORES
from model.training.losses import LOSSES, UncertaintyLoss, task_errors

NAMES = TASK_SCORES["full"]


@pytest.fixture
def errors() -> torch.Tensor:
    return torch.tensor([410.0, 380.5, 0.3, 0.25, 0.31, 0.07, 1.4], dtype=torch.float64)


def test_the_error_of_a_task_is_the_mean_square_on_its_own_scale() -> None:
    predicted = {"score_streams": torch.tensor([50.0, 20.0]), "coherence": torch.tensor([2.0, 3.0])}
    targets = torch.tensor([[40.0, 2.5], [26.0, 3.5]])
    assert task_errors(predicted, targets).tolist() == [(100 + 36) / 2, 0.25]


def test_equal_and_weighted_are_the_sums_that_the_reference_has(errors: torch.Tensor) -> None:
    values = errors.tolist()
    assert LOSSES["equal"](NAMES)(errors).item() == pytest.approx(math.fsum(values), abs=1e-6)
    by_hand = 5 * values[0] + 5 * values[1] + math.fsum(values[2:])
    assert LOSSES["weighted"](NAMES)(errors).item() == pytest.approx(by_hand, abs=1e-6)


def test_uncertainty_is_the_formula_and_so_is_its_gradient(errors: torch.Tensor) -> None:
    loss = UncertaintyLoss(7).double()
    logs = [0.5, 1.2, -0.3, 0.0, -1.1, 0.7, 0.2]
    with torch.no_grad():
        loss.log_sigmas.copy_(torch.tensor(logs, dtype=torch.float64))
    total = loss(errors)
    total.backward()
    by_hand = math.fsum(e / (2 * math.exp(s) ** 2) + s for e, s in zip(errors.tolist(), logs, strict=True))
    slopes = [1 - e / math.exp(2 * s) for e, s in zip(errors.tolist(), logs, strict=True)]
    assert total.item() == pytest.approx(by_hand, abs=1e-6)
    assert loss.log_sigmas.grad is not None
    assert loss.log_sigmas.grad.tolist() == pytest.approx(slopes, rel=1e-6)


def test_sigma_and_weight_of_each_task_can_be_told() -> None:
    loss = UncertaintyLoss(2)
    with torch.no_grad():
        loss.log_sigmas.copy_(torch.tensor([0.0, math.log(2)]))
    assert loss.sigmas() == pytest.approx([1, 2])
    assert loss.task_weights() == pytest.approx([1 / 2, 1 / 8])
    assert LOSSES["weighted"](NAMES).task_weights() == [5, 5, 1, 1, 1, 1, 1]
    assert LOSSES["equal"](NAMES).sigmas() is None
