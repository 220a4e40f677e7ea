"""What runs in the decoding child, inside the sandbox of `model.audio.sandbox.layers`: a file in, mono samples out.

Imported by the fork server only, never by the process that wants the samples: PyAV and libsndfile stay out of there.

What is scored is what players play. A track is refused as truncated only where the file's own bytes prove that audio
is missing (`model.audio.scan`); whatever else is odd about it becomes a warning (`model.audio.decode_warnings`).
"""

import errno
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO

from model.audio import ffmpeg, libsndfile
from model.audio.byte_ranges import PartsFile, Source
from model.audio.containers import BY_NAME, Container, locate
from model.audio.decode_errors import DecodeRejected
from model.audio.pcm import Samples, mono
from model.audio.resampling import Resampler
from model.audio.sandbox.layers import ResourceLimits, enter, leave_network
from model.audio.scan.layout import Layout
from model.audio.scan.scans import scan
from model.audio.stream_validator import StreamValidator
from model.domain import AudioLimits


@dataclass(frozen=True)
class Decoded:
    """What was found out about a file on the way.

    ``n_frames`` counts samples per channel at the file's own rate; ``warnings`` holds counts by code.
    """

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    n_frames: int
    decoder: str
    warnings: dict[str, int]


Decode = Callable[[BinaryIO, BinaryIO, AudioLimits], Decoded]


def prepare() -> None:
    """Leave the network once, in the fork server: making a namespace for each track is slow where there are many CPUs.

    Children could meet in it, had they sockets; two other layers deny them. Where it fails each child tries itself.
    """
    with suppress(OSError):
        leave_network()


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
    """Decode a file into float32 samples, mono at 24 kHz, in memory that does not grow with its length.

    Raises DecodeRejected for whatever is wrong with the file, MemoryError, and OSError when reading or writing fails.
    """
    reader = Source(source.fileno())
    located = locate(reader.read_at)
    if located is None:
        raise DecodeRejected("container")
    container, start = located
    layout = scan(reader, container, start)
    validator = StreamValidator(limits)
    output = _MonoWriter(validator, sink)
    file = PartsFile(source.fileno(), layout.parts)
    opened_as = BY_NAME[layout.opened_as] if layout.opened_as else container
    codec, decoder = _decode(file, opened_as, layout, validator, output.write)
    output.finish()
    validator.conclude()
    warnings = {code: count for code, count in layout.warnings.items() if count}
    return Decoded(
        container.name, codec, validator.sample_rate_hz, validator.channels, validator.n_frames, decoder, warnings
    )


def _decode(
    file: PartsFile,
    container: Container,
    layout: Layout,
    validator: StreamValidator,
    write: Callable[[list[Samples]], None],
) -> tuple[str, str]:
    """Decode with FFmpeg, and with libsndfile where FFmpeg fails before its first sample; the codec and the decoder."""
    decoders: list[ModuleType] = [ffmpeg, libsndfile] if container.libsndfile else [ffmpeg]
    for decoder in decoders:
        try:
            file.seek(0)
            return decoder.decode(file, container, layout, validator, write), decoder.NAME
        except MemoryError:
            raise  # PyAV's is one of those below too
        except DecodeRejected as rejected:
            if rejected.reason != "broken" or validator.n_frames:
                raise
        except decoder.MALFORMED_FILE_ERRORS:
            if validator.n_frames:
                break
    raise DecodeRejected("broken")


class _MonoWriter:
    """Writes the mean of the channels at 24 kHz."""

    def __init__(self, validator: StreamValidator, sink: BinaryIO) -> None:
        self._validator = validator
        self._sink = sink
        self._resampler: Resampler | None = None

    def write(self, channels: list[Samples]) -> None:
        """Take the next block; float32, shape = (n_frames,) per channel."""
        samples = mono(channels)
        self._validator.measure(samples, channels)
        self._resampler = self._resampler or Resampler(self._validator.sample_rate_hz)
        self._sink.write(self._resampler.push(samples).data)

    def finish(self) -> None:
        if self._resampler:
            self._sink.write(self._resampler.flush().data)
