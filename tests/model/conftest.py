"""Tracks to score with tiny weights."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and OpenMP's spinning ones starve each other when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_track(duration_s: float, rate_hz: int, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Three moving tones over noise, with each channel a little different; float32, (n_frames, n_channels)."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz))[:, None] / rate_hz
    pitches_hz, phases = rng.uniform(80, 3_000, (3, 1, 1)), rng.uniform(0, 6, (3, 1, channels))
    tones = np.sin(2 * np.pi * pitches_hz * (time_s + 0.002 * np.sin(time_s)) + phases).sum(axis=0)
    noise = rng.standard_normal((len(time_s), channels))
    track: NDArray[np.float32] = (0.2 * tones + 0.05 * noise).astype(np.float32)
    return track
