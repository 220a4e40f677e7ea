"""Resampling, against a plain formula and torchaudio."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.audio.pcm import Samples
from model.audio.resampling import Resampler, resample, resampled_length
from tests.model import reference
from tests.model.audio import torchaudio_resample
from tests.model.audio.test_pcm import noise

USUAL_RATES_HZ = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000]
#: They share few divisors with 24 kHz, so the filter has hundreds to thousands of phases.
AWKWARD_RATES_HZ = [8_001, 37_800, 44_056, 47_999]


def pushed(signal: Samples, rate_hz: int, block_sizes: list[int]) -> Samples:
    """The signal through a resampler, cut into blocks of these sizes over and over."""
    resampler, start = Resampler(rate_hz), 0
    chunks: list[Samples] = []
    while start < len(signal):
        size = block_sizes[len(chunks) % len(block_sizes)]
        chunks.append(resampler.push(signal[start : start + size]))
        start += size
    return np.concatenate([*chunks, resampler.flush()])


@pytest.mark.parametrize("rate_hz", USUAL_RATES_HZ)
def test_resampling_follows_the_formula(rate_hz: int) -> None:
    signal = noise(rate_hz + 17)
    np.testing.assert_allclose(resample(signal, rate_hz), reference.resample(signal, rate_hz, 24_000), atol=2e-5)


@pytest.mark.parametrize("rate_hz", AWKWARD_RATES_HZ)
def test_resampling_from_an_awkward_rate_has_the_rounding_of_the_reference_and_no_more(rate_hz: int) -> None:
    signal = noise(rate_hz + 17)
    np.testing.assert_allclose(resample(signal, rate_hz), reference.resample(signal, rate_hz, 24_000), atol=2e-3)


# torchaudio holds a whole filter for each phase: gigabytes at the last of the awkward rates.
@pytest.mark.parametrize("rate_hz", [*USUAL_RATES_HZ, *AWKWARD_RATES_HZ[:-1]])
def test_resampling_equals_torchaudio(rate_hz: int) -> None:
    signal = noise(rate_hz + 17)
    expected = torchaudio_resample.resample(torch.from_numpy(signal), rate_hz, 24_000).numpy()
    np.testing.assert_allclose(resample(signal, rate_hz), expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.sampled_from(USUAL_RATES_HZ) | st.integers(80, 1_920).map(lambda hundreds: hundreds * 100),
    n_samples=st.integers(1, 40_000),
    block_sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=4),
)
def test_where_a_signal_is_cut_does_not_show(rate_hz: int, n_samples: int, block_sizes: list[int]) -> None:
    block_sizes[0] = max(block_sizes[0], 50)  # some block is large enough for the test to end soon
    signal = noise(n_samples)
    whole = resample(signal, rate_hz)
    assert len(whole) == resampled_length(n_samples, rate_hz)
    np.testing.assert_allclose(pushed(signal, rate_hz, block_sizes), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("n_samples", "rate_hz", "n_expected"),
    [
        (2_667_339, 44_100, 1_451_613),  # the exact quotient asks for 1,451,614
        (44_100, 44_100, 24_000),
        (44_101, 44_100, 24_001),
        (1, 192_000, 1),
        (1, 8_000, 3),
        (0, 44_100, 0),
    ],
)
def test_length_rounds_through_float32(n_samples: int, rate_hz: int, n_expected: int) -> None:
    assert resampled_length(n_samples, rate_hz) == n_expected
    assert len(resample(np.zeros(n_samples, np.float32), rate_hz)) == n_expected


@given(rate_hz=st.sampled_from(USUAL_RATES_HZ).filter(lambda hz: hz != 24_000), part_of_a_day=st.floats(0, 1))
def test_streaming_never_gives_out_more_than_the_final_length_of_a_day(rate_hz: int, part_of_a_day: float) -> None:
    r, n_samples = Resampler(rate_hz), int(part_of_a_day * 86_400 * rate_hz)
    n_emitted = max(0, n_samples - r._width - r._held_back) // r._old * r._new
    assert n_emitted <= resampled_length(n_samples, rate_hz)


def test_memory_between_pushes_does_not_grow() -> None:
    resampler = Resampler(44_100)
    held = [len(resampler._pending) for _ in range(50) if resampler.push(noise(44_100)) is not None]
    assert max(held) < 1_000


def test_equal_rates_pass_through_untouched() -> None:
    signal = noise(1_000)
    np.testing.assert_array_equal(resample(signal, 24_000), signal)
