"""libsndfile decodes what FFmpeg cannot open, and every other file as FFmpeg does."""

import io
import os
from collections.abc import Iterator

import numpy as np
import pytest

from model.audio import ffmpeg, libsndfile
from model.audio.byte_ranges import PartsFile, Source
from model.audio.containers import locate
from model.audio.decoder import Decoder
from model.audio.pcm import Samples
from model.audio.scan.scans import scan
from model.audio.stream_validator import StreamValidator
from model.domain import AudioLimits
from tests.model import tracks
from tests.model.audio.files.odd import ODD_FILES
from tests.model.audio.test_odd_files import decode

LIMITS = AudioLimits(min_duration_s=0.1)
#: What libsndfile cannot read in a container that it knows.
UNREADABLE = {"ogg-flac", "wav-adpcm"}
OPUS_OVERLAP_SAMPLES = 480
SHARED = [
    kind
    for kind in tracks.KINDS
    if tracks.container_of(kind) in ("wav", "w64", "flac", "mp3", "ogg", "aiff", "caf", "au") and kind not in UNREADABLE
]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    with Decoder(LIMITS, timeout_s=30, scratch_dir=tmp_path_factory.mktemp("scratch")) as decoder:
        yield decoder


def channels_of(decoder: object, data: bytes) -> Samples:
    """All samples that one of the two decoders gives, shape = (channels, n_frames)."""
    with open(os.memfd_create("track"), "w+b", buffering=0) as file:
        file.write(data)
        source = Source(file.fileno())
        located = locate(source.read_at)
        assert located
        layout = scan(source, *located)
        blocks = list[list[Samples]]()
        parts = PartsFile(file.fileno(), layout.parts)
        decoder.decode(parts, located[0], layout, StreamValidator(LIMITS), blocks.append)  # type: ignore[attr-defined]
    return np.concatenate([np.array(block) for block in blocks], axis=1)


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_two_decoders_agree(kind: str, channels: int) -> None:
    data = tracks.track_file(kind, tracks.music(1.5, 48_000, channels), 48_000)
    first, second = channels_of(ffmpeg, data), channels_of(libsndfile, data)
    assert first.shape == second.shape
    difference = np.abs(first - second)
    if kind == "ogg-opus":  # where the sound is cut, within the overlap of two packets, each has its own way
        assert difference[:, -OPUS_OVERLAP_SAMPLES:].max() < 1e-3
        difference = difference[:, :-OPUS_OVERLAP_SAMPLES]
    assert difference.max() < 1e-5


def test_a_vorbis_whose_headers_come_twice_is_decoded_by_libsndfile(decoder: Decoder) -> None:
    with decode(decoder, ODD_FILES["Vorbis whose headers come twice"].build()) as track:
        assert track.facts.decoder == "libsndfile"
        assert track.facts.codec == "vorbis"


@pytest.mark.parametrize("kind", ["wav-16", "ogg-vorbis", "mp3", "flac-16", "caf-16", "au-16", "w64-16"])
def test_ffmpeg_comes_first(decoder: Decoder, kind: str) -> None:
    with decode(decoder, tracks.track_file(kind)) as track:
        assert track.facts.decoder == "ffmpeg"


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_libsndfile_gets_no_codec_that_is_not_taken(subtype: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    soundfile.write(file, tracks.music(1.5, 44_100, 1), 44_100, format="WAV", subtype=subtype)
    with pytest.raises(Exception, match="broken"):
        channels_of(libsndfile, file.getvalue())
