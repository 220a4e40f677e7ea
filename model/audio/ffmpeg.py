"""The first decoder: FFmpeg through PyAV. Imported by the decoding child only.

Goes on as players do: empty packets are nothing, packets that do not decode are left out and counted, timestamps do
not change what is heard.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
from av.audio.plane import AudioPlane

from model.audio.containers import CODECS, Container
from model.audio.decode_errors import DecodeRejected
from model.audio.pcm import Samples
from model.audio.scan.layout import Layout
from model.audio.stream_validator import StreamValidator

NAME = "ffmpeg"
#: What PyAV raises on broken files, as found by mutating them. Anything else is a fault of ours.
MALFORMED_FILE_ERRORS = (av.FFmpegError, ValueError, LookupError, NotImplementedError, RuntimeError, ArithmeticError)
BLOCK_SAMPLES = 1 << 16
#: Of all packets, so many may be left out.
MAX_SKIPPED_SHARE = 0.05
#: Timestamps that jump ahead by less than this are rounding, or an encoder's delay.
_MIN_GAP_S = 0.05
#: How far the declared length may differ: priming, padding and rounding.
_LENGTH_TOLERANCE_S = 0.1
#: Containers whose declared length is their own, and not an estimate of FFmpeg's, and that no scan has compared.
_DECLARING = frozenset(["mp4", "webm"])
#: What lies before the first frame of these, and does not decode, is the end of one that was cut off.
_SELF_SYNCHRONISING = frozenset(["mp3", "aac"])
#: Begins at a time of the broadcast's own.
_LATE_STARTING = frozenset(["ts"])
#: Whose frames have numbers instead of times: what is missing did not decode, and FFmpeg passed over it.
_NUMBERED = frozenset(["flac"])
_MAX_GAP_PACKETS = 1 << 20
#: PyAV 18 would refuse a track for a tag that is not UTF-8; from 19 on it never does.
_LENIENT_TAGS = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
#: FLAC alone has a checksum for every frame, and FFmpeg looks at it only when told to.
_CODEC_OPTIONS = {"flac": {"err_detect": "crccheck+explode"}}
#: Python's copy of a channel layout that is no usual one shares memory with FFmpeg's, and would free it a second time.
_KEPT_LAYOUTS: list[Any] = []
#: Codecs whose frames may bring such a layout, whatever the header says.
_UNUSUAL_LAYOUTS = frozenset(["aac"])

#: Turns the sample type of a decoder into float32 as libsndfile does: full scale is 1.
_TO_FLOAT: dict[str, Callable[[Any], Any]] = {
    "uint8": lambda raw: (raw.astype(np.float32) - np.float32(1 << 7)) * np.float32(2**-7),
    "int16": lambda raw: raw.astype(np.float32) * np.float32(2**-15),
    "int32": lambda raw: raw.astype(np.float32) * np.float32(2**-31),
    "float32": lambda raw: raw,
    "float64": lambda raw: raw.astype(np.float32),
}


def decode(
    file: BinaryIO,
    container: Container,
    layout: Layout,
    validator: StreamValidator,
    write: Callable[[list[Samples]], None],
) -> str:
    """Decode one audio stream into blocks of float32, shape = (n_frames,) per channel; return the codec's name.

    Adds to the layout's warnings. Raises DecodeRejected or one of MALFORMED_FILE_ERRORS.
    """
    with _open(file, container) as opened:
        stream = _choose_stream(opened, layout.warnings)
        _require_whole_index(stream, container, file)
        _prepare(stream, validator)
        packets = _PacketDecoder(stream, container, layout.warnings)
        for block in _blocks(packets.frames(opened), validator):
            write(block)
        packets.conclude()
        _compare_lengths(opened, stream, container, layout, validator, packets)
        return str(stream.codec_context.codec.canonical_name)


def _open(file: BinaryIO, container: Container) -> Any:
    """Open with the one demuxer that the first bytes call for; no other file, protocol or codec is in its reach."""
    options = {
        "format_whitelist": container.demuxer,
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join([*CODECS, "mp3float"]),
    }
    return av.open(file, "r", format=container.demuxer, options=options, **_LENIENT_TAGS)


def _choose_stream(opened: Any, warnings: Counter[str]) -> Any:
    """The default audio stream, or the first, among those in a codec that is taken. Pictures and video do not count."""
    streams = opened.streams.audio
    if not streams:
        raise DecodeRejected("no_stream")
    taken = [stream for stream in streams if _codec(stream) in CODECS]
    if not taken:
        raise DecodeRejected("codec")
    if len(streams) > 1:
        warnings["other_streams_ignored"] = len(streams) - 1
    return next((stream for stream in taken if stream.disposition & av.stream.Disposition.default), taken[0])


def _codec(stream: Any) -> str:
    return str(stream.codec_context.codec.canonical_name) if stream.codec_context else ""


def _prepare(stream: Any, validator: StreamValidator) -> None:
    context = stream.codec_context
    layout = context.layout
    _KEPT_LAYOUTS.append(layout)
    validator.expect(context.sample_rate, layout.nb_channels)
    context.layout = f"{layout.nb_channels}C"  # frames of PCM carry the header's layout, and none is needed
    context.options = _CODEC_OPTIONS.get(context.codec.canonical_name, {})
    context.thread_count = 1


def _require_whole_index(stream: Any, container: Container, file: BinaryIO) -> None:
    """Refuse an MP4 whose table of samples points behind the end of the file."""
    if container.name == "mp4" and (entries := stream.index_entries):
        position, end = file.tell(), file.seek(0, os.SEEK_END)
        file.seek(position)
        if entries[len(entries) - 1].pos + entries[len(entries) - 1].size > end:
            raise DecodeRejected("truncated")


class _PacketDecoder:
    """Decodes packet by packet, counts those that are left out, and watches the timestamps."""

    def __init__(self, stream: Any, container: Container, warnings: Counter[str]) -> None:
        self._stream, self._container, self._warnings = stream, container, warnings
        self._n_packets = 0
        self._keeps_layouts = _codec(stream) in _UNUSUAL_LAYOUTS
        self._heard = False
        self._expected_s: float | None = 0.0 if container.name not in _LATE_STARTING else None
        self.last_failed = False

    def frames(self, opened: Any) -> Iterator[Any]:
        """All frames of the stream."""
        for packet in opened.demux(self._stream):
            if packet.size:  # an empty packet would end the decoding
                yield from map(self._watched, self._decoded(packet))
        yield from map(self._watched, self._stream.codec_context.decode(None))

    def conclude(self) -> None:
        """Raise DecodeRejected where too many packets were left out, or all."""
        n_skipped = self._warnings["packets_skipped"]
        if not self._heard:
            raise DecodeRejected("broken")
        if n_skipped > MAX_SKIPPED_SHARE * (self._n_packets + n_skipped):
            raise DecodeRejected("damaged")

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError:
            self._skip()
            return []
        self._n_packets += 1
        self.last_failed = False
        return list(frames)

    def _skip(self) -> None:
        self.last_failed = True
        self._expected_s = None  # the gap that it leaves is no other fault
        if self._heard or self._container.name not in _SELF_SYNCHRONISING:
            self._warnings["packets_skipped"] += 1

    def _watched(self, frame: Any) -> Any:
        self._heard = True
        if self._keeps_layouts:
            _KEPT_LAYOUTS.append(frame.layout)
        at_s, frame_s = frame.time, frame.samples / frame.sample_rate
        if at_s is not None and self._expected_s is not None and at_s - self._expected_s > _MIN_GAP_S:
            self._count_gap(at_s - self._expected_s, frame_s)
        start_s = at_s if at_s is not None else self._expected_s
        self._expected_s = None if start_s is None else start_s + frame_s
        return frame

    def _count_gap(self, gap_s: float, frame_s: float) -> None:
        if self._container.name in _NUMBERED:
            self._warnings["packets_skipped"] += max(1, min(round(gap_s / max(frame_s, 1e-3)), _MAX_GAP_PACKETS))
        else:
            self._warnings["timestamp_gaps"] += 1


def _blocks(frames: Iterable[Any], validator: StreamValidator) -> Iterator[list[Samples]]:
    """Join frames, which may be as short as 20 samples, into blocks; per channel float32, shape = (n_frames,)."""
    # Not PyAV's fifo: it frees a channel layout that is no usual one with every block.
    gathered, n_gathered, format_name = list[Any](), 0, None
    for frame in frames:
        validator.admit(frame.samples, frame.sample_rate, frame.layout.nb_channels)
        format_name = format_name or frame.format.name
        if frame.format.name != format_name:
            raise DecodeRejected("changes")
        gathered.append(frame)
        n_gathered += frame.samples
        if n_gathered >= BLOCK_SAMPLES:
            yield _joined(gathered, n_gathered, validator.channels)
            gathered, n_gathered = [], 0
    if n_gathered:
        yield _joined(gathered, n_gathered, validator.channels)


def _joined(frames: list[Any], n_samples: int, n_channels: int) -> list[Samples]:
    """The samples of frames of one format."""
    layout, dtype = frames[0].format, np.dtype(format_dtypes[frames[0].format.name])
    n_planes = n_channels if layout.is_planar else 1
    width = n_channels // n_planes
    channels = list[Any]()
    for index in range(n_planes):
        plane = b"".join([_plane(frame, index, frame.samples * width * dtype.itemsize) for frame in frames])
        channels += list(np.frombuffer(plane, dtype, n_samples * width).reshape(-1, width).T)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        return [_TO_FLOAT[dtype.name](channel) for channel in channels]


def _plane(frame: Any, index: int, n_bytes: int) -> Any:
    """What of a plane is samples. `frame.planes` would count on where there is no ninth plane but other memory."""
    plane = AudioPlane(frame, index)
    return plane if plane.buffer_size == n_bytes else memoryview(plane)[:n_bytes]


def _compare_lengths(
    opened: Any,
    stream: Any,
    container: Container,
    layout: Layout,
    validator: StreamValidator,
    packets: _PacketDecoder,
) -> None:
    """Refuse a track whose last packet was cut off while more was declared; warn of any other difference."""
    if layout.declared_samples > validator.n_frames and packets.last_failed:
        raise DecodeRejected("truncated")
    if layout.declared_samples not in (0, validator.n_frames):
        layout.warnings["declared_length_differs"] = 1
    declared_s = _declared_s(opened, stream) if container.name in _DECLARING else 0.0
    differs = abs(declared_s - validator.n_frames / validator.sample_rate_hz) > _LENGTH_TOLERANCE_S
    if declared_s and differs and not layout.warnings["timestamp_gaps"]:
        layout.warnings["declared_length_differs"] = 1


def _declared_s(opened: Any, stream: Any) -> float:
    """The length that a header declares, 0 where none does: beside a video, the file's may be the video's."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return opened.duration / av.time_base if opened.duration and len(opened.streams) == 1 else 0.0
