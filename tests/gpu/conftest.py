"""Engines on the device and on the CPU, of one set of tiny weights."""

from pathlib import Path

import pytest

from model.inference.engines.torch import TorchEngine
from model.networks.mert import EncoderSource

DEVICE = "cuda"


@pytest.fixture(scope="session")
def encoder(tiny_weights: Path) -> EncoderSource:
    return EncoderSource(tiny_weights / "mert", "tiny")


@pytest.fixture(scope="session")
def on_cpu(encoder: EncoderSource) -> TorchEngine:
    return TorchEngine(encoder)


@pytest.fixture(scope="session")
def on_cuda(encoder: EncoderSource) -> TorchEngine:
    return TorchEngine(encoder, device=DEVICE)
