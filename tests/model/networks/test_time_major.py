"""The parts for CUDA devices, on a CPU, against those of transformers."""

from pathlib import Path

import pytest
import torch

from model.domain import SEGMENT_SAMPLES
from model.networks.mert import PooledMert, fold_weight_norm, load_mert
from model.networks.time_major import SpectralPositions, TimeMajorFrontEnd


@pytest.fixture(scope="module")
def stock(tiny_weights: Path) -> PooledMert:
    return PooledMert(fold_weight_norm(load_mert(tiny_weights / "mert"))).double()


def samples(n_samples: int) -> torch.Tensor:
    return torch.randn(2, n_samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n_samples", [SEGMENT_SAMPLES, 400_003, 12_000])
def test_the_front_end_gives_the_frames_of_the_stock_one(stock: PooledMert, n_samples: int) -> None:
    padded = torch.nn.functional.pad(samples(n_samples), (0, 4000))
    for n_left_out in (0, 50_000):
        expected = stock.front_end(padded, n_left_out)
        found = TimeMajorFrontEnd(stock.mert.feature_extractor.conv_layers)(padded, n_left_out)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_frames", [2249, 1000, 200])
def test_positions_by_transforms_are_those_of_the_convolution(stock: PooledMert, n_frames: int) -> None:
    embedding = stock.mert.encoder.pos_conv_embed
    states = torch.randn(2, n_frames, stock.mert.config.hidden_size, generator=torch.Generator().manual_seed(0))
    expected = embedding(states.double()).float()
    torch.testing.assert_close(SpectralPositions(embedding)(states), expected, rtol=1e-4, atol=1e-5)
