"""Up to 24 channels, planar or not, in whatever layout: what is scored is their plain mean."""

from collections.abc import Iterator

import numpy as np
import pytest

from model.audio.decoder import Decoder
from model.audio.pcm import Samples, mono
from model.audio.resampling import resample
from model.domain import AudioLimits
from tests.model import tracks
from tests.model.audio.files.channels import (
    PCE_LAYOUTS,
    ambisonic,
    custom_layout,
    custom_layout_in_mp4,
    described_by_itself,
    many_channels,
)
from tests.model.audio.test_odd_files import decode, samples


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    with Decoder(AudioLimits(), timeout_s=30, scratch_dir=tmp_path_factory.mktemp("scratch")) as decoder:
        yield decoder


def mean(channels: int) -> Samples:
    """What the mean of the test's channels is at 24 kHz."""
    return resample(mono(tracks.music(1.5, 48_000, channels).T), 48_000)


@pytest.mark.parametrize("channels", [3, 8, 16, 24])
@pytest.mark.parametrize(("muxer", "codec"), [("wav", "pcm_s16le"), ("matroska", "pcm_s24le"), ("caf", "pcm_s16be")])
def test_interleaved_channels_are_averaged(decoder: Decoder, muxer: str, codec: str, channels: int) -> None:
    track = decode(decoder, many_channels(muxer, codec, channels))
    assert track.facts.channels == channels
    np.testing.assert_allclose(samples(track), mean(channels), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("muxer", "codec"), [("ogg", "libopus"), ("webm", "libopus"), ("ipod", "aac"), ("adts", "aac"), ("flac", "flac")]
)
def test_eight_planes_are_read_and_not_a_ninth(decoder: Decoder, muxer: str, codec: str) -> None:
    track = decode(decoder, many_channels(muxer, codec, 8))
    assert track.facts.channels == 8
    assert np.std(samples(track)) == pytest.approx(np.std(mean(8)), rel=0.1)


@pytest.mark.parametrize("channels", [8, 9, 16, 24])
def test_more_than_eight_planes_are_read(decoder: Decoder, channels: int) -> None:
    track = decode(decoder, tracks.track_file("ogg-vorbis", tracks.music(1.5, 48_000, channels), 48_000))
    assert track.facts.channels == channels
    assert np.std(samples(track)) == pytest.approx(np.std(mean(channels)), rel=0.1)


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize(("muxer", "codec"), [("mov", "pcm_s16le"), ("aiff", "pcm_s16be")])
def test_a_layout_that_is_no_usual_one_is_freed_once(decoder: Decoder, muxer: str, codec: str, channels: int) -> None:
    track = decode(decoder, custom_layout(muxer, codec, channels))
    assert track.facts.channels == channels
    np.testing.assert_allclose(samples(track), mean(channels), rtol=0, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 6])
def test_a_layout_of_an_mp4_that_is_no_usual_one_is_freed_once(decoder: Decoder, channels: int) -> None:
    track = decode(decoder, custom_layout_in_mp4(channels))
    np.testing.assert_allclose(samples(track), mean(channels), rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", PCE_LAYOUTS)
@pytest.mark.parametrize("muxer", ["ipod", "adts"])
def test_aac_that_describes_its_channels_itself_is_averaged(decoder: Decoder, muxer: str, layout: str) -> None:
    track = decode(decoder, described_by_itself(muxer, layout))
    assert track.facts.channels == PCE_LAYOUTS[layout]
    # A channel for low frequencies has nothing else.
    assert np.std(samples(track)) == pytest.approx(np.std(mean(PCE_LAYOUTS[layout])), rel=0.25)


@pytest.mark.parametrize("muxer", ["ogg", "webm"])
def test_an_ambisonic_opus_is_averaged(decoder: Decoder, muxer: str) -> None:
    track = decode(decoder, ambisonic(muxer))
    assert track.facts.channels == 6
    assert np.std(samples(track)) == pytest.approx(np.std(mean(6)), rel=0.25)
