"""The head: published names and counts, and exact numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from model.domain import SCORE_RANGES, TASK_SCORES
from model.networks.head import DEFAULT_LAYER_MIX, ApexHead, HeadConfig, LayerMix
from tests.model import reference

TINY = HeadConfig(input_dim=8, shared_dims=(6, 5), branch_dims=(4, 3))


def lively_head(config: HeadConfig = TINY) -> ApexHead:
    """A head whose BatchNorms have seen data, so that every tensor matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        head = ApexHead(config).train()
        for _ in range(20):
            head(torch.randn(32, config.input_dim) * 2 + 1)
    return head.eval()


@pytest.mark.parametrize(
    ("task", "shared_dims", "n_parameters", "n_tensors"),
    [
        ("full", (512, 256), 817_799, 126),
        ("full", (512, 384, 256), 982_791, 133),
        ("popularity", (512, 256), 609_794, 46),
        ("popularity", (512, 384, 256), 774_786, 53),
    ],
)
def test_the_published_sizes(task: str, shared_dims: tuple[int, ...], n_parameters: int, n_tensors: int) -> None:
    head = ApexHead(HeadConfig(task=task, shared_dims=shared_dims))
    assert sum(parameter.numel() for parameter in head.parameters()) == n_parameters
    assert len(head.state_dict()) == n_tensors


def test_the_published_names() -> None:
    names = {"block.0": ("weight", "bias"), "block.1": ("weight", "bias", "running_mean", "running_var")}
    block = [f"{part}.{kind}" for part, kinds in names.items() for kind in kinds] + ["block.1.num_batches_tracked"]
    expected = {f"shared.{i}.{name}" for i in (0, 1) for name in block}
    for score in SCORE_RANGES:
        expected |= {f"branch_{score}.branch.{i}.{name}" for i in (0, 1) for name in block}
        expected |= {f"branch_{score}.branch.2.{kind}" for kind in ("weight", "bias")}
    assert ApexHead(TINY).state_dict().keys() == expected


@pytest.mark.parametrize("task", TASK_SCORES)
@pytest.mark.parametrize("shared_dims", [(6, 5), (7, 6, 5)])
def test_scores_equal_the_plain_functions(task: str, shared_dims: tuple[int, ...]) -> None:
    head = lively_head(HeadConfig(task, 8, shared_dims, (4, 3)))
    x = torch.linspace(-3, 3, 8)
    expected = reference.apply_head(head.state_dict(), x)
    with torch.no_grad():
        found = {name: float(score) for name, score in head(x[None]).items()}
    assert tuple(found) == TASK_SCORES[task]
    assert found == pytest.approx(expected, abs=1e-5)


def test_scores_stay_within_their_ranges_whatever_comes_in() -> None:
    with torch.no_grad():
        scores = lively_head()(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 1e6)
    for name, (low, high) in SCORE_RANGES.items():
        assert low <= scores[name].min()
        assert scores[name].max() <= high


def test_dropout_stands_after_every_block_and_nowhere_else() -> None:
    found = {name: module.p for name, module in ApexHead(TINY).named_modules() if isinstance(module, nn.Dropout)}
    shared = {f"shared.{i}.block.3": 0.3 for i in (0, 1)}
    assert found == shared | {f"branch_{score}.branch.{i}.block.3": 0.1 for score in SCORE_RANGES for i in (0, 1)}


def test_the_layer_mix_is_what_the_reference_draws_from_its_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        drawn = nn.Conv1d(4, 1, kernel_size=1)
    assert drawn.weight.flatten().tolist() == pytest.approx(DEFAULT_LAYER_MIX.weights, abs=1e-9)
    assert drawn.bias is not None
    assert drawn.bias.item() == pytest.approx(DEFAULT_LAYER_MIX.bias, abs=1e-9)


def test_the_layer_mix_weighs_the_four_states() -> None:
    states = np.arange(24.0).reshape(2, 4, 3)
    mixed = LayerMix((1.0, 0.0, -1.0, 2.0), 0.5)(states)
    np.testing.assert_allclose(mixed, states[:, 0] - states[:, 2] + 2 * states[:, 3] + 0.5)
