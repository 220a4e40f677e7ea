"""Builds audio files of every kind, good and hostile, so that no binary has to be committed."""

import io
import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

Signal = NDArray[np.float32]

#: How av writes what soundfile cannot: muxer and encoder by the name of the kind.
_AV_KINDS = {
    "m4a-aac": ("ipod", "aac"),
    "m4a-alac": ("ipod", "alac"),
    "mp4-fragmented": ("mp4", "aac"),
    "adts": ("adts", "aac"),
    "webm-opus": ("webm", "libopus"),
    "ogg-opus": ("ogg", "libopus"),
    "mka-aac": ("matroska", "aac"),
    "mka-flac": ("matroska", "flac"),
    "ogg-flac": ("ogg", "flac"),
    "mka-pcm": ("matroska", "pcm_s16le"),
    "ts-aac": ("mpegts", "aac"),
    "ts-mp3": ("mpegts", "libmp3lame"),
    "mp4-ac3": ("mp4", "ac3"),
    "wav-adpcm": ("wav", "adpcm_ima_wav"),
}
_MUXER_OPTIONS = {"mp4-fragmented": {"movflags": "frag_keyframe+empty_moov"}}

_SOUNDFILE_KINDS = {
    "wav-u8": ("WAV", "PCM_U8"),
    "wav-16": ("WAV", "PCM_16"),
    "wav-24": ("WAV", "PCM_24"),
    "wav-32": ("WAV", "PCM_32"),
    "wav-float": ("WAV", "FLOAT"),
    "wav-double": ("WAV", "DOUBLE"),
    "wav-alaw": ("WAV", "ALAW"),
    "wav-ulaw": ("WAV", "ULAW"),
    "wavex-24": ("WAVEX", "PCM_24"),
    "rf64-16": ("RF64", "PCM_16"),
    "aiff-s8": ("AIFF", "PCM_S8"),
    "aiff-16": ("AIFF", "PCM_16"),
    "aiff-24": ("AIFF", "PCM_24"),
    "aifc-float": ("AIFF", "FLOAT"),
    "caf-16": ("CAF", "PCM_16"),
    "caf-24": ("CAF", "PCM_24"),
    "caf-float": ("CAF", "FLOAT"),
    "caf-alac": ("CAF", "ALAC_16"),
    "au-16": ("AU", "PCM_16"),
    "au-float": ("AU", "FLOAT"),
    "au-ulaw": ("AU", "ULAW"),
    "w64-16": ("W64", "PCM_16"),
    "w64-float": ("W64", "FLOAT"),
    "flac-s8": ("FLAC", "PCM_S8"),
    "flac-16": ("FLAC", "PCM_16"),
    "flac-24": ("FLAC", "PCM_24"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg-vorbis": ("OGG", "VORBIS"),
}

#: Kinds whose samples come back as they were, and that libsndfile can read.
LOSSLESS = [kind for kind in _SOUNDFILE_KINDS if kind not in ("mp3", "ogg-vorbis")]

#: Everything that `track_file` can make.
KINDS = [*_SOUNDFILE_KINDS, *_AV_KINDS]

_CONTAINER_OF_PREFIX = {"wavex": "wav", "rf64": "wav", "aifc": "aiff", "m4a": "mp4", "mka": "webm", "adts": "aac"}


def container_of(kind: str) -> str:
    """The container that `model.audio.containers` should name for a kind of file."""
    prefix = kind.partition("-")[0]
    return _CONTAINER_OF_PREFIX.get(prefix, prefix)


def music(duration_s: float = 1.5, rate_hz: int = 44_100, channels: int = 2) -> Signal:
    """A chord with some noise, different in every channel; float32, shape = (n_frames, channels)."""
    n_frames = round(duration_s * rate_hz)
    seconds = np.arange(n_frames)[:, None] / rate_hz
    tones = 0.3 * np.sin(2 * np.pi * (220 + 110 * np.arange(channels)) * seconds)
    noise = 0.05 * np.random.default_rng(0).standard_normal((n_frames, channels))
    return (tones + noise).astype(np.float32)


def ramp(n_samples: int) -> NDArray[np.int16]:
    """Integers that count up and wrap around: cheap samples, no two neighbours alike."""
    return np.arange(n_samples).astype(np.int16)


def track_file(kind: str, signal: Signal | None = None, rate_hz: int | None = None) -> bytes:
    """A file of the kind, made by soundfile where it can and by av where not."""
    rate_hz = rate_hz or (48_000 if "opus" in kind else 44_100)  # Opus has no 44.1 kHz
    signal = music(rate_hz=rate_hz) if signal is None else signal
    if kind in _SOUNDFILE_KINDS:
        file = io.BytesIO()
        container, codec = _SOUNDFILE_KINDS[kind]
        soundfile.write(file, signal, rate_hz, format=container, subtype=codec)
        return file.getvalue()
    return _av_track(kind, [signal], rate_hz)


def two_tracks(kind: str = "m4a-aac") -> bytes:
    """A file with two audio streams."""
    return _av_track(kind, [music(), music()], 44_100)


def with_tags(data: bytes, tags: dict[str, str]) -> bytes:
    """The same track in the same container, its sound untouched, with tags."""
    source, file = av.open(io.BytesIO(data)), io.BytesIO()
    muxer = {"matroska,webm": "webm", "mov,mp4,m4a,3gp,3g2,mj2": "ipod"}.get(source.format.name, source.format.name)
    with source, av.open(file, "w", format=muxer) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        output.metadata.update(tags)
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return file.getvalue()


def _av_track(kind: str, signals: list[Signal], rate_hz: int) -> bytes:
    muxer, codec = _AV_KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=muxer, options=_MUXER_OPTIONS.get(kind, {})) as output:
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[signals[0].shape[1]]
        streams = [output.add_stream(codec, rate=rate_hz, layout=layout) for _ in signals]
        for stream, signal in zip(streams, signals, strict=True):
            for frame in encoder_frames(stream, signal, layout, rate_hz):
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux([packet for packet in stream.encode(None) if packet.size])  # FLAC's last one is empty
    return file.getvalue()


def encoder_frames(stream: Any, signal: Signal, layout: str, rate_hz: int) -> list[Any]:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal.reshape(1, -1)), format="flt", layout=layout)
    frame.sample_rate = rate_hz
    context = stream.codec_context
    context.open(strict=False)
    resampler = av.AudioResampler(format=context.format, layout=layout, rate=rate_hz, frame_size=context.frame_size)
    return [*resampler.resample(frame), *resampler.resample(None)]


def video(with_sound: bool = False) -> bytes:
    """A second of MPEG-4 video in MP4, on request with a sound track."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        picture = output.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        sound = output.add_stream("aac", rate=44_100, layout="stereo") if with_sound else None
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
        if sound is not None:
            for frame in encoder_frames(sound, music(), "stereo", 44_100):
                output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
    return file.getvalue()


def wav(
    samples: NDArray[Any],
    rate_hz: int = 44_100,
    *,
    channels: int = 1,
    bits: int | None = None,
    tag: int | None = None,
    block_align: int | None = None,
    data_bytes: int | None = None,
    riff_bytes: int | None = None,
) -> bytes:
    """A WAV of raw samples whose header may lie about everything."""
    data = samples.tobytes()
    bits = samples.itemsize * 8 if bits is None else bits
    tag = (3 if samples.dtype.kind == "f" else 1) if tag is None else tag
    block_align = channels * samples.itemsize & 0xFFFF if block_align is None else block_align
    byte_rate = min(rate_hz * block_align, 2**32 - 1)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate_hz, byte_rate, block_align, bits)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data) if data_bytes is None else data_bytes) + data
    return struct.pack("<4sI", b"RIFF", len(body) if riff_bytes is None else riff_bytes) + body


def with_flac_total(flac: bytes, n_frames: int) -> bytes:
    """The same FLAC with another number of samples in its header (36 bits, from the low half of byte 21 on)."""
    head = int.from_bytes(flac[18:26], "big") >> 36 << 36 | n_frames
    return flac[:18] + head.to_bytes(8, "big") + flac[26:]


def long_silent_flac(duration_s: float, rate_hz: int = 44_100) -> bytes:
    """Hours of stereo silence in a few MB, built frame by frame without an encoder: a frame of zeros is 13 bytes."""
    block = 65_535
    n_blocks = int(duration_s * rate_hz / block)
    streaminfo = struct.pack(">HH", block, block) + bytes(6)
    streaminfo += (rate_hz << 44 | 1 << 41 | 15 << 36 | n_blocks * block).to_bytes(8, "big") + bytes(16)
    header = b"fLaC" + bytes([0x80, 0, 0, len(streaminfo)]) + streaminfo
    return header + b"".join(_silent_flac_frame(index, block) for index in range(n_blocks))


def _silent_flac_frame(index: int, block: int) -> bytes:
    # Sync and fixed block size; block size in 16 bits; stereo, 16 bits; then the frame number as in UTF-8.
    head = b"\xff\xf8\x79\x18" + chr(index).encode("utf-8", "surrogatepass") + struct.pack(">H", block - 1)
    head += bytes([_crc(head, 8, 0x07)])
    frame = head + bytes(6)  # a constant subframe of 0 for each channel: one byte of type, two of value
    return frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    register, top, mask = 0, 1 << bits - 1, (1 << bits) - 1
    for byte in data:
        register ^= byte << bits - 8
        for _ in range(8):
            register = (register << 1 ^ polynomial if register & top else register << 1) & mask
    return register


def id3(size: int) -> bytes:
    """An ID3v2.3 tag of ``size`` bytes of padding."""
    return b"ID3\x03\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
