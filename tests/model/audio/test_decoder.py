"""Every good file decodes to what libsndfile says; every bad one ends in a clear error, and costs nothing else."""

import io
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.audio.decode_errors import DECODE_ERRORS
from model.audio.decoder import DecodedTrack, Decoder, DecodeStalled
from model.audio.pcm import mono
from model.audio.resampling import resample
from model.audio.sandbox import forkserver
from model.audio.sandbox.forkserver import ForkServerError
from model.audio.sandbox.layers import LAYERS
from model.domain import (
    SEGMENT_SAMPLES,
    AudioError,
    AudioFacts,
    AudioLimits,
    AudioNoStream,
    AudioSilent,
    AudioTooLong,
    AudioTooShort,
    AudioUndecodable,
    UnsupportedMediaType,
)
from tests.model import tracks
from tests.model.audio.decode_targets import TROUBLE
from tests.model.audio.test_containers import NOT_AUDIO
from tests.model.tracks import id3, music, ramp, track_file, video, wav, with_flac_total

CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children")
LIMITS = AudioLimits(max_duration_s=120.0)
PADDED = ["m4a-aac", "mp4-fragmented", "adts", "mka-aac", "webm-opus", "ogg-opus"]
EXACT = ["m4a-alac", "mka-flac", "mka-pcm", "ogg-flac"]
DECLARING = [*tracks.LOSSLESS, *EXACT, "mp3", "ogg-vorbis", "ogg-opus", "m4a-aac", "mka-aac", "webm-opus"]
SEEDS = [
    "wav-16", "flac-16", "mp3", "ogg-vorbis", "ogg-opus", "m4a-aac", "adts", "aiff-16", "webm-opus", "mka-pcm",
]  # fmt: skip


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    with Decoder(LIMITS, timeout_s=30, scratch_dir=tmp_path_factory.mktemp("scratch")) as decoder:
        yield decoder


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[Callable[..., Decoder]]:
    """Makes decoders whose child is one of `tests.model.audio.decode_targets`."""
    made: list[Decoder] = []

    def make(target: str, timeout_s: float = 20.0) -> Decoder:
        target = f"tests.model.audio.decode_targets:{target}"
        made.append(Decoder(LIMITS, timeout_s=timeout_s, scratch_dir=tmp_path, target=target))
        return made[-1]

    yield make
    for decoder in made:
        decoder.close()


def decode(decoder: Decoder, data: bytes) -> DecodedTrack:
    with io.BytesIO(data) as content, open(os.memfd_create("track"), "w+b") as file:
        file.write(content.getbuffer())
        file.flush()
        return decoder.decode(file)


def samples(track: DecodedTrack) -> np.ndarray:
    with track:
        return np.concatenate(list(track.segments()))[: track.n_samples]


def decoding_error(decoder: Decoder, data: bytes) -> str | None:
    try:
        track = decode(decoder, data)
    except AudioError as error:
        return str(error)
    assert np.isfinite(samples(track)).all()
    return None


def facts(decoder: Decoder, data: bytes) -> AudioFacts:
    with decode(decoder, data) as track:
        return track.facts


def reference(data: bytes) -> np.ndarray:
    signal, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return resample(mono(signal.T), rate_hz)


# Good files


@pytest.mark.parametrize("kind", [*tracks.LOSSLESS, "mp3", "ogg-vorbis"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 2), (48_000, 1), (24_000, 1)])
def test_samples_are_those_of_libsndfile(decoder: Decoder, kind: str, rate_hz: int, channels: int) -> None:
    data = track_file(kind, music(1.5, rate_hz, channels), rate_hz)
    track = decode(decoder, data)
    assert track.facts == AudioFacts(tracks.container_of(kind), track.facts.codec, rate_hz, channels, 1.5)
    expected = reference(data)
    assert track.n_samples == len(expected) == 36_000
    np.testing.assert_allclose(samples(track), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", EXACT)
def test_lossless_kinds_that_libsndfile_cannot_read_give_their_samples_back(decoder: Decoder, kind: str) -> None:
    signal = music()
    expected = resample(mono(signal.T), 44_100)
    np.testing.assert_allclose(samples(decode(decoder, track_file(kind, signal))), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("kind", PADDED)
@pytest.mark.parametrize("channels", [1, 2])
def test_other_lossy_kinds_decode_to_their_length_within_the_padding(
    decoder: Decoder, kind: str, channels: int
) -> None:
    found = facts(decoder, track_file(kind, music(1.5, 48_000, channels), 48_000))
    assert (found.container, found.sample_rate_hz, found.channels) == (tracks.container_of(kind), 48_000, channels)
    assert found.duration_s == pytest.approx(1.5, abs=0.06)


@pytest.mark.parametrize("kind", ["wav-16", "flac-16", "ogg-vorbis"])
def test_surround_sound_becomes_the_mean_of_its_channels(decoder: Decoder, kind: str) -> None:
    data = track_file(kind, music(channels=6))
    np.testing.assert_allclose(samples(decode(decoder, data)), reference(data), rtol=0, atol=2e-5)


def test_a_full_length_mp3_has_no_gap_and_no_padding(decoder: Decoder) -> None:
    data = track_file("mp3", music(90.0))
    track = decode(decoder, data)
    assert track.facts.duration_s == 90.0
    np.testing.assert_allclose(samples(track), reference(data), rtol=0, atol=2e-5)


def test_segments_are_thirty_seconds_long_and_the_last_is_what_remains(decoder: Decoder) -> None:
    with decode(decoder, track_file("flac-16", music(61.0, 24_000, 1), 24_000)) as track:
        segments = list(track.segments())
        again = next(track.segments())
    assert track.n_segments == len(segments) == 3
    assert [len(segment) for segment in segments] == [SEGMENT_SAMPLES, SEGMENT_SAMPLES, 24_000]
    assert {segment.dtype.name for segment in segments} == {"float32"}
    np.testing.assert_array_equal(again, segments[0])


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_whose_writer_could_not_seek_back_decodes_whole(decoder: Decoder, size: int) -> None:
    data = wav(ramp(66_150), data_bytes=size, riff_bytes=size)
    assert facts(decoder, data).duration_s == 1.5


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(64), bytes(3000), bytes(range(40))])
def test_tags_before_and_behind_an_mp3_are_passed_over(decoder: Decoder, tail: bytes) -> None:
    data = track_file("mp3", music(5.0))
    assert facts(decoder, id3(70_000) + data + tail).duration_s == facts(decoder, data).duration_s == 5.0


def test_a_tag_in_no_known_encoding_does_no_harm(decoder: Decoder) -> None:
    title = b"LIST\x0e\x00\x00\x00INFOINAM\x02\x00\x00\x00\xff\xfe"
    assert facts(decoder, track_file("wav-16") + title).duration_s == 1.5


@pytest.mark.parametrize("kind", ["mp3", "ogg-vorbis", "m4a-aac", "webm-opus", "ogg-flac"])
def test_tags_in_any_script_do_no_harm(decoder: Decoder, kind: str) -> None:
    tags = {"title": "\u202eгимн 🎵", "artist": "Ωmega" * 2_000, "../../etc/passwd": "'; DROP TABLE jobs; --"}
    assert facts(decoder, tracks.with_tags(track_file(kind), tags)).duration_s == pytest.approx(1.5, abs=0.06)


@pytest.mark.parametrize("kind", ["wav-16", "wav-float", "flac-24", "mp3"])
def test_a_track_at_full_scale_is_not_taken_for_noise(decoder: Decoder, kind: str) -> None:
    data = track_file(kind, np.sign(music(2.0)))
    np.testing.assert_allclose(samples(decode(decoder, data)), reference(data), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["flac-16", "adts"])
def test_an_id3_tag_before_another_format_does_not_make_it_an_mp3(decoder: Decoder, kind: str) -> None:
    assert facts(decoder, id3(500) + track_file(kind)).container == tracks.container_of(kind)


def test_a_video_beside_the_sound_is_passed_over(decoder: Decoder) -> None:
    assert facts(decoder, video(with_sound=True)).codec == "aac"


def test_a_path_and_an_open_file_at_any_position_give_the_same(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "track"
    path.write_bytes(track_file("wav-16"))
    with path.open("rb") as file:
        file.seek(1000)
        np.testing.assert_array_equal(samples(decoder.decode(file)), samples(decoder.decode(path)))
        assert file.tell() == 1000


def test_every_sample_rate_there_is_decodes(decoder: Decoder) -> None:
    for rate_hz in (8_000, 44_101, 191_999, 192_000):
        signal = music(5.0, rate_hz, 1)
        assert facts(decoder, track_file("wav-16", signal, rate_hz)).duration_s == 5.0


# Bad files

UNSCORABLE: dict[str, tuple[Callable[[], bytes], type[AudioError]]] = {
    "short": (lambda: wav(ramp(44_099)), AudioTooShort),
    "silent": (lambda: wav(np.zeros(66_150, np.int16)), AudioSilent),
    "constant": (lambda: wav(np.full(66_150, 7, np.int16)), AudioSilent),
    "constant opposite channels": (
        lambda: wav(np.tile(np.array([900, -900], np.int16), 66_150), channels=2),
        AudioSilent,
    ),
    "rate too high": (lambda: wav(ramp(66_150), 192_001), AudioUndecodable),
    "ADPCM": (lambda: track_file("wav-adpcm"), UnsupportedMediaType),
    "ID3 tag before a page": (lambda: id3(20) + b"<html></html>" * 999, UnsupportedMediaType),
    "WAV header before a zip": (lambda: track_file("wav-16")[:30] + b"PK\x03\x04" + bytes(999), AudioError),
}


@pytest.mark.parametrize("data", NOT_AUDIO.values(), ids=NOT_AUDIO.keys())
def test_what_is_no_audio_is_an_unsupported_media_type(decoder: Decoder, data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        decode(decoder, data)


@pytest.mark.parametrize(
    "kind", [*tracks.LOSSLESS, *EXACT, "mp3", "ogg-vorbis", "ogg-opus", "m4a-aac", "mka-aac", "webm-opus"]
)
def test_a_truncated_file_is_an_error_and_not_a_shorter_track(decoder: Decoder, kind: str) -> None:
    data = track_file(kind, music(3.0, 48_000), 48_000)
    for sixteenths in range(1, 16):
        with pytest.raises(AudioError) as caught:
            decode(decoder, data[: len(data) * sixteenths // 16])
        assert caught.type in (AudioUndecodable, AudioNoStream)


@pytest.mark.parametrize("kind", ["flac-16", "mp3", "ogg-vorbis", "m4a-aac"])
def test_damage_to_a_fifth_of_a_file_is_an_error(decoder: Decoder, kind: str) -> None:
    data = bytearray(track_file(kind, music(6.0)))
    fifth = len(data) // 5
    data[2 * fifth : 3 * fifth] = np.random.default_rng(1).bytes(fifth)
    with pytest.raises(AudioUndecodable, match="5 %"):
        decode(decoder, bytes(data))


@pytest.mark.parametrize(("build", "error"), UNSCORABLE.values(), ids=UNSCORABLE.keys())
def test_a_file_that_cannot_be_scored_says_why(
    decoder: Decoder, build: Callable[[], bytes], error: type[AudioError]
) -> None:
    with pytest.raises(error) as caught:
        decode(decoder, build())
    assert str(caught.value).endswith(".")
    assert "/" not in str(caught.value)


@pytest.mark.parametrize("kind", ["wav-16", "flac-24", "mp3"])
@pytest.mark.parametrize("level", [1.0, 0.01])
def test_channels_that_cancel_one_another_are_said_to_be_silent_together(
    decoder: Decoder, kind: str, level: float
) -> None:
    left = music(channels=1) * np.float32(level)
    with pytest.raises(AudioSilent, match="cancel"):
        decode(decoder, track_file(kind, np.hstack([left, -left])))


def test_a_quiet_track_is_not_taken_for_one_that_cancels_itself(decoder: Decoder) -> None:
    assert facts(decoder, track_file("wav-float", music() * np.float32(1e-4))).duration_s == 1.5


def test_a_flac_that_declares_too_little_is_counted_by_its_samples(decoder: Decoder) -> None:
    assert facts(decoder, with_flac_total(track_file("flac-16"), 1000)).duration_s == 1.5


def test_the_longest_track_is_taken_and_one_sample_more_is_not(decoder: Decoder) -> None:
    longest = np.tile(ramp(8_000), 120)
    assert facts(decoder, wav(longest, 8_000)).duration_s == LIMITS.max_duration_s
    with pytest.raises(AudioTooLong, match="longer than 120 s"):
        decode(decoder, wav(np.append(longest, longest[:1]), 8_000))


def test_a_day_of_silence_in_a_megabyte_is_refused_before_it_fills_the_memory(decoder: Decoder) -> None:
    bomb = tracks.long_silent_flac(86_400)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AudioTooLong):
        decode(decoder, bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    with pytest.raises(AudioSilent):
        decode(decoder, tracks.long_silent_flac(100))  # so it was a FLAC


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    limits, fifty_minutes = AudioLimits(max_duration_s=3600), 3_000  # a gigabyte as float32
    with (
        Decoder(limits, memory_bytes=300 << 20, scratch_dir=tmp_path) as decoder,
        pytest.raises(AudioSilent),  # found at the very end
    ):
        decode(decoder, tracks.long_silent_flac(fifty_minutes))


@cache
def seed(kind: str) -> bytes:
    return track_file(kind, music(0.3, 24_000, 1), 24_000)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 16)), min_size=1, max_size=6),
)
def test_a_mutated_file_decodes_or_ends_in_an_audio_error(
    decoder: Decoder, kind: str, edits: list[tuple[float, bytes, int]]
) -> None:
    data = seed(kind)
    for where, new, n_removed in edits:
        # Squared, for most of what there is to break is at the front.
        at = int(where**2 * len(data))
        data = data[:at] + new + data[at + n_removed :]
    assert decoding_error(decoder, data) != DECODE_ERRORS["crash"][1]


# Misbehaving children


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("segfault", "crash"), ("abort", "crash"), ("leave", "crash"), ("bug", "crash"),
        ("eat_memory", "memory"), ("spin", "time"), ("shout", "container"),
    ],
)  # fmt: skip
def test_a_child_that_goes_wrong_fails_its_track_and_no_other(
    strange: Callable[..., Decoder], capfd: pytest.CaptureFixture[str], target: str, reason: str
) -> None:
    decoder = strange(target, timeout_s=1.5)
    with pytest.raises(DECODE_ERRORS[reason][0]) as caught:
        decode(decoder, TROUBLE)
    assert str(caught.value) == DECODE_ERRORS[reason][1]
    assert facts(decoder, track_file("wav-16")).duration_s == 1.5
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "reply",
    [
        "dict(container='wav', codec='pcm_s16le', sample_rate_hz=24000, channels=1, n_frames=48000, decoder='vlc',"
        " warnings={})",
        "dict(container='wav', codec='pcm_s16le', sample_rate_hz=24000, channels=1, n_frames=48000, decoder='ffmpeg',"
        " warnings={'<b>': 1})",
        "dict(container='wav', codec='pcm_s16le', sample_rate_hz=24000, channels=1, n_frames=48000, decoder='ffmpeg',"
        " warnings={'packets_skipped': 'many'})",
        "{}", "[]", "5", "None", "'' * 3", "{'layers': 5}", "{'layers': [[]], 'refused': 'nothing'}",
        "{'refused': 5}", "{'refused': []}", "'x' * 15000", "{'layers': [], 'n_frames': 1}",
        "dict(container='wav', codec='pcm_s16le', sample_rate_hz=24000, channels=1, n_frames=48000, decoder='ffmpeg',"
        " warnings={})",
        "dict(container='wav', codec='pcm_s16le', sample_rate_hz=0, channels=1, n_frames=48000, decoder='ffmpeg',"
        " warnings={})",
        "dict(container='wav', codec='pcm_s16le', sample_rate_hz=10**30, channels=1, n_frames=10**30, decoder='ffmpeg',"
        " warnings={})",
        "dict(container='wav', codec='<b>', sample_rate_hz=24000, channels=1, n_frames=48000, decoder='ffmpeg',"
        " warnings={})",
        "dict(container='wav', codec='pcm_s16le', sample_rate_hz=24000, channels=1, n_frames=float('nan'),"
        " decoder='ffmpeg', warnings={})",
        "object()",
    ],
)  # fmt: skip
def test_a_child_is_not_believed_when_it_talks_nonsense(strange: Callable[..., Decoder], reply: str) -> None:
    with pytest.raises(AudioUndecodable, match="crashed"):
        decode(strange("echo"), reply.encode())


def test_a_full_disk_is_no_fault_of_the_track(strange: Callable[..., Decoder]) -> None:
    with pytest.raises(OSError, match="No space left"):
        decode(strange("fill_disk"), TROUBLE)


@pytest.mark.parametrize(("kills", "error"), [((3, 4), OSError), ((4, 4), AudioUndecodable)])
def test_a_child_that_the_kernel_ends_for_lack_of_memory_is_no_fault_of_the_track(
    strange: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch, kills: tuple[int, int], error: type[Exception]
) -> None:
    dying = strange("segfault")  # as sudden; a sandboxed child may kill nobody, itself included
    monkeypatch.setattr("model.audio.decoder.oom_kills", iter(kills).__next__)
    with pytest.raises(error):
        decode(dying, TROUBLE)


def test_an_error_that_is_the_sandbox_refusing_the_track_is_the_tracks(strange: Callable[..., Decoder]) -> None:
    with pytest.raises(AudioUndecodable, match="crashed"):
        decode(strange("need_a_file"), TROUBLE)


def test_a_decoder_that_only_waits_is_no_fault_of_the_track(strange: Callable[..., Decoder]) -> None:
    with pytest.raises(DecodeStalled):
        decode(strange("hang", timeout_s=1.5), TROUBLE)


def test_a_decoder_that_cannot_start_says_so(
    strange: Callable[..., Decoder], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ForkServerError):
        decode(strange("there_is_none"), TROUBLE)
    assert "AttributeError" in capfd.readouterr().err


def test_the_death_of_the_fork_server_is_no_fault_of_the_track(strange: Callable[..., Decoder]) -> None:
    decoder = strange("hang")
    assert facts(decoder, track_file("wav-16"))
    [server] = children()
    threading.Timer(0.3, os.kill, (server, signal.SIGKILL)).start()
    with pytest.raises(ForkServerError):
        decode(decoder, TROUBLE)
    assert facts(decoder, track_file("wav-16"))


def test_a_fork_server_that_does_not_answer_is_replaced(
    strange: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "_FORK_TIMEOUT_S", 0.5)
    decoder = strange("hang")
    assert facts(decoder, track_file("wav-16"))
    [server] = children()
    os.kill(server, signal.SIGSTOP)
    with pytest.raises(ForkServerError, match="does not answer"):
        decode(decoder, track_file("wav-16"))
    assert children() == []
    assert facts(decoder, track_file("wav-16"))


def test_a_stopped_fork_server_ends_with_its_decoder(strange: Callable[..., Decoder]) -> None:
    decoder = strange("hang")
    assert facts(decoder, track_file("wav-16"))
    [server] = children()
    os.kill(server, signal.SIGSTOP)
    decoder.close()
    assert children() == []


def test_signals_to_the_whole_group_leave_a_decoder_working(strange: Callable[..., Decoder]) -> None:
    decoder = strange("hang")
    assert facts(decoder, track_file("wav-16"))
    [server] = children()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(server, name)
    assert facts(decoder, track_file("wav-16"))
    assert children() == [server]


# Housekeeping


def children() -> list[int]:
    """Processes that this one started and that are not the module's own decoder."""
    return [
        int(pid)
        for pid in CHILDREN.read_text().split()
        if b"decode_targets" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def belongings() -> tuple[list[str], list[str]]:
    return sorted(os.listdir("/proc/self/fd")), CHILDREN.read_text().split()


def test_decoding_leaves_no_descriptor_no_process_and_no_file(tmp_path: Path) -> None:
    good = track_file("wav-16")
    with Decoder(LIMITS, scratch_dir=tmp_path) as decoder:
        before = belongings()
        for index in range(50):
            assert (decoding_error(decoder, good[:index] if index % 2 else good) is None) == (index % 2 == 0)
        assert belongings() == before
    assert len(belongings()[1]) == len(before[1]) - 1
    assert list(tmp_path.iterdir()) == []


def test_threads_share_a_decoder(decoder: Decoder) -> None:
    data = [track_file("flac-16", music(1.0 + index / 10)) for index in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda track: facts(decoder, track).duration_s, data))
    assert found == [1.0 + index / 10 for index in range(8)]


def test_only_a_regular_file_is_opened(decoder: Decoder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(__file__)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "link", tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(OSError):  # noqa: PT011
            decoder.decode(path)


def test_a_decoder_knows_its_sandbox_layers_once_it_is_entered(tmp_path: Path) -> None:
    with Decoder(replace(LIMITS, min_duration_s=0.0), scratch_dir=tmp_path) as decoder:
        assert set(decoder.layers) <= set(LAYERS)
        assert "memory" in decoder.layers
        assert set(decoder.missing_layers) == set(LAYERS) - set(decoder.layers)


def test_every_refusal_is_a_sentence_without_a_gap() -> None:
    for error, sentence in DECODE_ERRORS.values():
        assert issubclass(error, AudioError)
        assert sentence[0].isupper()
        assert sentence.endswith(".")
