"""Signals for engines, the road of a decoded track to them, and how far two answers are apart."""

from collections.abc import Iterator

import numpy as np

from model.audio.pcm import Samples, mono, segments
from model.audio.resampling import Resampler
from model.domain import SEGMENT_SAMPLES

#: On every score: the promise of the service.
FIDELITY = 1e-3


def noise(n_segments: int, n_samples: int = SEGMENT_SAMPLES) -> Samples:
    return np.random.default_rng(3).standard_normal((n_segments, n_samples), np.float32)


def relative_error(found: Samples, expected: Samples) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def segments_of(track: Samples, rate_hz: int, block_frames: int = 40_961) -> Iterator[Samples]:
    """A decoded track on the road that the worker sends it, in blocks."""
    resampler = Resampler(rate_hz)
    blocks = (track[start : start + block_frames] for start in range(0, len(track), block_frames))
    chunks = [resampler.push(mono(block.T)) for block in blocks]
    return segments([*chunks, resampler.flush()])
