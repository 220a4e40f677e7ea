"""What runs in the decoding child, inside the sandbox of `model.audio.sandbox.layers`: a file in, mono samples out.

Imported by the fork server only, never by the process that wants the samples: PyAV stays out of there.

A part of a track is never scored as if it were the whole. Data that does not decode makes the track broken, save for
what lies around the frames of MP3 and ADTS, where tags live. A track is truncated where fewer samples decode than its
header declares, or an Ogg lacks its last page. ADTS, and MP3 without a Xing or VBRI header, declare nothing: what is
left of them after a cut is a whole, shorter track. Headers that declare too little are not believed, for samples are
counted.
"""

import errno
import io
import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import av.audio.codeccontext
import av.audio.stream
import av.subtitles.codeccontext  # PyAV imports these when it meets such a stream: too late inside the sandbox
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream
import numpy as np
from av.audio.frame import format_dtypes

from model.audio.containers import BY_NAME, CODECS, SNIFF_BYTES, Container, id3_bytes, sniff
from model.audio.decode_errors import DecodeRejected
from model.audio.pcm import Samples, mono
from model.audio.resampling import Resampler
from model.audio.sandbox.layers import ResourceLimits, enter
from model.domain import AudioLimits

BLOCK_SAMPLES = 1 << 16
#: Far above anything that a file of integers can hold, far below what would overflow in the network.
MAX_AMPLITUDE = 2.0**31
#: Containers whose frames carry their own start mark: what is not a frame before the first and after the last is a
#: tag or a remnant, which every player skips.
_SELF_SYNCHRONISING = frozenset(["mp3", "aac"])
#: How far the audio may fall short of the length declared: priming, padding and rounding. FLAC counts samples.
_SHORTFALL_S = {"flac": 0.0}
_USUAL_SHORTFALL_S = 0.1
#: Where an encoder left the number of frames: behind one mark if a flag says so, some way behind the other. Behind all
#: four optional fields of the first, some leave how many samples of padding there are at both ends, in 12 bits each.
_MP3_LENGTH = re.compile(
    rb"(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](?P<xing>.{4})|VBRI.{10}(?P<vbri>.{4})", re.S
)
_MP3_PADDING = re.compile(rb"(?:Xing|Info)...\x0f.{112}(?:LAME|Lavc|Lavf).{17}(?P<padding>.{3})", re.S)
_MP3_FIRST_FRAME_BYTES = 4096
_MP3_FRAME_SAMPLES = 1152
_MP3_MOST_PADDING = 2 * 4095
#: Writers that cannot seek back leave sizes such as 0x7FFFFFFF or 0xFFFFFFFF.
_UNKNOWN_SIZE_FROM = 0x7FFF0000
_OGG_PAGE_BYTES = 65307  # the longest there can be
_OGG_HEADER_BYTES = 27  # its last byte counts those that follow, one for the length of each piece of the page
_OGG_LAST_PAGE = 4
#: PyAV 18 would refuse a track for a tag that is not UTF-8; from 19 on it never does.
_LENIENT_TAGS = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
#: FLAC alone has a checksum for every frame, and FFmpeg looks at it only when told to.
_CODEC_OPTIONS = {"flac": {"err_detect": "crccheck+explode"}}
#: What PyAV raises on broken files, as found by mutating them. Anything else is a fault of ours.
MALFORMED_FILE_ERRORS = (av.FFmpegError, ValueError, LookupError, NotImplementedError, RuntimeError, ArithmeticError)

#: Turns the sample type of a decoder into float32 as libsndfile does: full scale is 1.
_TO_FLOAT: dict[str, Callable[[Any], Any]] = {
    "uint8": lambda raw: (raw.astype(np.float32) - np.float32(1 << 7)) * np.float32(2**-7),
    "int16": lambda raw: raw.astype(np.float32) * np.float32(2**-15),
    "int32": lambda raw: raw.astype(np.float32) * np.float32(2**-31),
    "float32": lambda raw: raw,
    "float64": lambda raw: raw.astype(np.float32),
}


@dataclass(frozen=True)
class Decoded:
    """What was found out about a file on the way; ``n_frames`` counts samples per channel at the file's own rate."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    n_frames: int


Decode = Callable[[BinaryIO, BinaryIO, AudioLimits], Decoded]


def run(request: dict[str, Any], source_fd: int, sink_fd: int, decode: Decode | None = None) -> dict[str, Any]:
    """Enter the sandbox, decode one descriptor into the other, and return the reply for the parent.

    The reply names the sandbox layers that apply and then the facts, or the reason of a refusal, or the number of an
    error of this machine (a full disk), which is not the track's fault.
    """
    source = io.FileIO(source_fd, closefd=False)
    sink = io.BufferedWriter(io.FileIO(sink_fd, "wb", closefd=False))
    layers = enter(ResourceLimits(**request["ceilings"]))
    outcome = _outcome(decode or decode_file, source, sink, AudioLimits(**request["limits"]))
    return {"layers": layers, **outcome}


def _outcome(decode: Decode, source: BinaryIO, sink: BinaryIO, limits: AudioLimits) -> dict[str, Any]:
    try:
        facts = decode(source, sink, limits)
        sink.flush()
    except DecodeRejected as refused:
        return {"refused": refused.reason}
    except MemoryError:
        return {"refused": "memory"}
    except OSError as error:
        return {"errno": error.errno or errno.EIO}
    return vars(facts)


def decode_file(source: BinaryIO, sink: BinaryIO, limits: AudioLimits) -> Decoded:
    """Decodes a file into float32 samples, mono at 24 kHz, in memory that does not grow with its length.

    Raises DecodeRejected for whatever is wrong with the file, MemoryError, and OSError when reading or writing fails.
    """
    container = _identify(source.fileno())
    meter = _StreamValidator(limits)
    try:
        with _open(source, container) as opened:
            stream = _audio_stream(opened, meter)
            frames = map(meter.admit, _frames(opened, stream, container))
            _write_mono(frames, meter, sink)
            if container.name == "ogg" and not _has_ogg_end(source.fileno()):
                raise DecodeRejected("truncated")
            meter.conclude(_declared_s(opened, stream, container, source.fileno()))
            codec = stream.codec_context.codec.canonical_name
    except MemoryError:
        raise  # PyAV's is one of those below too
    except MALFORMED_FILE_ERRORS as error:
        raise DecodeRejected("broken") from error
    return Decoded(container.name, codec, meter.sample_rate_hz, meter.channels, meter.n_frames)


class _StreamValidator:
    """Counts what passes, holds it to the limits and to one shape, and keeps its lowest and highest sample."""

    def __init__(self, limits: AudioLimits) -> None:
        self._limits = limits
        self.sample_rate_hz = 0
        self.channels = 0
        self.n_frames = 0
        self._lowest, self._highest = math.inf, -math.inf

    def expect(self, sample_rate_hz: int, channels: int) -> None:
        """Takes what a header or the first frame says for the shape of the track, where the limits allow it."""
        if not self._limits.min_sample_rate_hz <= sample_rate_hz <= self._limits.max_sample_rate_hz:
            raise DecodeRejected("sample_rate")
        if not 1 <= channels <= self._limits.max_channels:
            raise DecodeRejected("channels")
        self.sample_rate_hz, self.channels = sample_rate_hz, channels

    def admit(self, frame: Any) -> Any:
        """Passes a decoded frame on, or refuses the track because of it. Before any of its samples is looked at."""
        shape = frame.sample_rate, frame.layout.nb_channels
        if not self.n_frames:
            self.expect(*shape)  # HE-AAC plays at twice the rate that its header may say
        if shape != (self.sample_rate_hz, self.channels):
            raise DecodeRejected("changes")
        self.n_frames += frame.samples
        if self.n_frames > self._limits.max_duration_s * self.sample_rate_hz:
            raise DecodeRejected("too_long")
        return frame

    def measure(self, samples: Samples) -> None:
        lowest, highest = float(samples.min()), float(samples.max())
        if not (lowest >= -MAX_AMPLITUDE and highest <= MAX_AMPLITUDE):  # so written, it catches NaN
            raise DecodeRejected("not_finite")
        self._lowest, self._highest = min(lowest, self._lowest), max(highest, self._highest)

    def conclude(self, declared_s: float) -> None:
        """Refuses the whole track where it is cut off, too short or constant."""
        if self.n_frames < round(declared_s * self.sample_rate_hz):
            raise DecodeRejected("truncated")
        if self.n_frames < max(1, self._limits.min_duration_s * self.sample_rate_hz):
            raise DecodeRejected("too_short")
        if self._lowest == self._highest:
            raise DecodeRejected("silent")


def _identify(fd: int) -> Container:
    head = os.pread(fd, SNIFF_BYTES, 0)
    # Some FLAC and AAC files begin with the tag of an MP3.
    name = sniff(os.pread(fd, SNIFF_BYTES, id3_bytes(head))) or sniff(head)
    if name is None:
        raise DecodeRejected("container")
    return BY_NAME[name]


def _open(source: BinaryIO, container: Container) -> Any:
    """Opens with the one demuxer that the first bytes call for; no other file, protocol or codec is in its reach."""
    options = {
        "format_whitelist": container.demuxer,
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join([*CODECS, "mp3float"]),
    }
    return av.open(source, "r", format=container.demuxer, options=options, **_LENIENT_TAGS)


def _audio_stream(opened: Any, meter: _StreamValidator) -> Any:
    """The only audio stream, ready to decode. Pictures and video beside it are passed over."""
    if len(opened.streams.audio) != 1:
        raise DecodeRejected("several_streams" if opened.streams.audio else "no_stream")
    stream = opened.streams.audio[0]
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in CODECS:
        raise DecodeRejected("codec")
    meter.expect(context.sample_rate, context.layout.nb_channels)
    context.options = _CODEC_OPTIONS.get(context.codec.canonical_name, {})
    context.thread_count = 1
    return stream


def _frames(opened: Any, stream: Any, container: Container) -> Iterator[Any]:
    """Decoded frames. Data that does not decode is an error, but for tags around self-synchronising streams."""
    heard = failed = False
    for packet in opened.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            if container.name not in _SELF_SYNCHRONISING:
                raise
            failed = True
            continue
        if frames and heard and failed:
            raise DecodeRejected("broken")
        heard, failed = heard or bool(frames), failed and not frames
        yield from frames
    if failed and not heard:
        raise DecodeRejected("broken")


def _write_mono(frames: Iterable[Any], meter: _StreamValidator, sink: BinaryIO) -> None:
    resampler = None
    for channels in _blocks(frames):
        samples = mono(channels)
        meter.measure(samples)
        resampler = resampler or Resampler(meter.sample_rate_hz)
        sink.write(resampler.push(samples).data)
    if resampler:
        sink.write(resampler.flush().data)


def _blocks(frames: Iterable[Any]) -> Iterator[list[Samples]]:
    """Joins frames, which may be as short as 20 samples, into blocks; per channel float32, shape = (n_frames,)."""
    fifo = av.AudioFifo()
    for frame in frames:
        frame.pts = None  # gaps in the timestamps are none of the buffer's business
        fifo.write(frame)
        if fifo.samples >= BLOCK_SAMPLES:
            yield _channels(fifo.read())
    if fifo.samples:
        yield _channels(fifo.read())


def _channels(frame: Any) -> list[Samples]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        return [_TO_FLOAT[raw.dtype.name](raw) for raw in _raw_channels(frame)]


def _raw_channels(frame: Any) -> Iterable[Any]:
    if not frame.format.is_planar:
        return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T  # type: ignore[no-any-return]
    # Read where they are: to_ndarray() would join the planes in a copy, a tenth of an MP3's whole cost.
    dtype = np.dtype(format_dtypes[frame.format.name])
    return [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes]


def _declared_s(opened: Any, stream: Any, container: Container, fd: int) -> float:
    """The least that must decode for the file to hold what it declares, in seconds; 0 where it declares nothing."""
    if container.name == "mp3":
        return _mp3_declared_s(fd, stream.codec_context.sample_rate)
    if container.name == "aac":
        return 0.0  # FFmpeg estimates
    if stream.duration:
        declared_s = float(stream.duration * stream.time_base)
    elif opened.duration and len(opened.streams) == 1:  # beside a video, the length is that of the longer one
        declared_s = opened.duration / av.time_base
    else:
        return 0.0
    return declared_s * _missing_factor(container, fd) - _SHORTFALL_S.get(container.name, _USUAL_SHORTFALL_S)


def _mp3_declared_s(fd: int, sample_rate_hz: int) -> float:
    """From the number of frames that an encoder left in the first one; FFmpeg has its doubts and rather estimates."""
    first_frame = os.pread(fd, _MP3_FIRST_FRAME_BYTES, id3_bytes(os.pread(fd, SNIFF_BYTES, 0)))
    found = _MP3_LENGTH.search(first_frame)
    if not found:
        return 0.0
    frame_samples = _MP3_FRAME_SAMPLES if sample_rate_hz >= 32_000 else _MP3_FRAME_SAMPLES // 2
    n_samples = int.from_bytes(found["xing"] or found["vbri"], "big") * frame_samples
    return max(0, n_samples - _mp3_padding(first_frame) - _MP3_FRAME_SAMPLES) / sample_rate_hz


def _mp3_padding(first_frame: bytes) -> int:
    """Samples that belong to no track at both ends: as many as the encoder says, or as there can be."""
    found = _MP3_PADDING.search(first_frame)
    if not found:
        return _MP3_MOST_PADDING
    before, behind = divmod(int.from_bytes(found["padding"], "big"), 1 << 12)
    return before + behind


def _has_ogg_end(fd: int) -> bool:
    """Whether the last page is whole and says that it is the last: Ogg declares no length, but it marks its end."""
    tail = os.pread(fd, _OGG_PAGE_BYTES, max(0, os.fstat(fd).st_size - _OGG_PAGE_BYTES))
    page = tail[tail.rfind(b"OggS") :]
    if len(page) <= _OGG_HEADER_BYTES or not page[5] & _OGG_LAST_PAGE:
        return False
    head_bytes = _OGG_HEADER_BYTES + page[_OGG_HEADER_BYTES - 1]
    return len(page) >= head_bytes + sum(page[_OGG_HEADER_BYTES:head_bytes])


def _missing_factor(container: Container, fd: int) -> float:
    """How many times longer a WAV claims to be than it is: FFmpeg quietly trims its length to the bytes at hand."""
    if container.name != "wav":
        return 1.0
    outer, size = struct.unpack("<4sI", os.pread(fd, 8, 0))
    known = outer == b"RIFF" and size < _UNKNOWN_SIZE_FROM
    return max(1.0, (size + 8) / os.fstat(fd).st_size) if known else 1.0
