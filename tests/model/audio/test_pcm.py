"""Mono, segments and normalisation, against plain formulas and the reference's feature extractor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.audio.pcm import Samples, mono, normalise, segments
from model.domain import SEGMENT_SAMPLES, AudioUndecodable
from tests.model import reference


def noise(n_samples: int, seed: int = 0) -> Samples:
    return (0.2 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_mono_is_the_mean_over_the_channels(channels: int) -> None:
    block = noise(1_000 * channels).reshape(-1, channels)
    assert mono(block.T).dtype == np.float32
    np.testing.assert_allclose(mono(block.T), block.astype(np.float64).mean(axis=1), atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(0, 900_000), max_size=4))
def test_segments_hold_every_sample_in_order_and_nothing_else(sizes: list[int]) -> None:
    signal = np.arange(1, sum(sizes) + 1, dtype=np.float32)
    chunks = np.split(signal, np.cumsum(sizes)[:-1]) if sizes else []
    found = list(segments(chunks))
    assert len(found) == -(-len(signal) // SEGMENT_SAMPLES)
    assert {len(segment) for segment in found[:-1]} <= {SEGMENT_SAMPLES}
    np.testing.assert_array_equal(np.concatenate([np.empty(0, np.float32), *found]), signal)


def test_a_segment_stays_as_it_was_when_the_next_one_is_made() -> None:
    first, second = segments([np.ones(SEGMENT_SAMPLES, np.float32), np.zeros(5, np.float32)])
    assert first.all()
    assert second.tolist() == [0] * 5


@pytest.mark.parametrize("n_padding", [0, 7, 700_000])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_normalisation_counts_the_padding(n_padding: int, offset: float) -> None:
    samples = noise(SEGMENT_SAMPLES - n_padding) + np.float32(offset)
    expected = reference.normalise(np.pad(samples, (0, n_padding)))
    np.testing.assert_allclose(normalise(np.pad(samples, (0, n_padding))), expected, atol=2e-5)
    if n_padding:
        np.testing.assert_allclose(normalise(samples, n_padding), expected[:-n_padding] - expected[-1], atol=2e-5)


def test_normalisation_is_that_of_the_feature_extractor_to_the_bit() -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=24_000, do_normalize=True)
    segment = np.pad(noise(500_000), (0, 220_000))
    expected = extractor(segment, sampling_rate=24_000, return_tensors="np").input_values[0]
    np.testing.assert_array_equal(normalise(segment), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_samples_that_are_no_numbers_are_the_tracks_fault(bad: float) -> None:
    segment = noise(SEGMENT_SAMPLES)
    segment[1_000:1_010] = bad
    with pytest.raises(AudioUndecodable):
        normalise(segment)
