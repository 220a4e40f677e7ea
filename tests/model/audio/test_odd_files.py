"""Files that play everywhere are scored as players play them, and what is odd about them is said."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from model.audio.decoder import DecodedTrack, Decoder
from model.domain import SAMPLE_RATE_HZ, AudioLimits
from tests.model.audio.files.odd import ODD_FILES, OddFile


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    with Decoder(AudioLimits(), timeout_s=30, scratch_dir=tmp_path_factory.mktemp("scratch")) as decoder:
        yield decoder


def decode(decoder: Decoder, data: bytes) -> DecodedTrack:
    with open(os.memfd_create("track"), "w+b", buffering=0) as file:
        file.write(data)
        return decoder.decode(file)


def samples(track: DecodedTrack) -> np.ndarray:
    with track:
        return np.concatenate(list(track.segments()))[: track.n_samples]


@pytest.mark.parametrize("odd", ODD_FILES.values(), ids=ODD_FILES.keys())
def test_an_odd_file_is_scored_as_players_play_it_and_says_what_is_odd(decoder: Decoder, odd: OddFile) -> None:
    track = decode(decoder, odd.build())
    expected = samples(decode(decoder, odd.plain()))
    assert {warning.code for warning in track.warnings} == set(odd.warnings)
    assert abs(track.n_samples - len(expected)) <= round(odd.differs_s * SAMPLE_RATE_HZ)
    found = samples(track)
    if not odd.differs_s and "packets_skipped" not in odd.warnings:
        np.testing.assert_allclose(found, expected, rtol=0, atol=odd.atol)
