"""From a file that nobody trusts to the samples that the network takes; the decoding happens in a child process."""

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, Self

import numpy as np

from model.audio.containers import BY_NAME, CODECS
from model.audio.decode_errors import DECODE_ERRORS, decode_error
from model.audio.decode_warnings import decode_warnings, is_plausible
from model.audio.pcm import Samples, segments
from model.audio.resampling import resampled_length
from model.audio.sandbox.forkserver import ForkServer, ForkServerError
from model.audio.sandbox.layers import LAYERS, ResourceLimits
from model.domain import SAMPLE_BYTES, SEGMENT_SAMPLES, AudioError, AudioFacts, AudioLimits, AudioWarning
from model.oom_kills import oom_kills
from model.temporary import temporary_directory

_DECODERS = ("ffmpeg", "libsndfile")
#: What reading the file or writing the samples may meet through no fault of the track. Any other error of the system is
#: the sandbox's answer to what the track made the decoder do.
_STORAGE_ERRNOS = frozenset(
    [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN]
)
#: A decoder that was busy for less of its time than this has waited for something that is not the track.
_MIN_BUSY_SHARE = 0.1


class DecodeStalled(OSError):
    """A decoder did next to nothing until its deadline: the disk does not answer, or the machine is far too busy."""


class DecodedTrack:
    """A decoded track, its samples in an unnamed file on disk: memory stays flat in its length. Close it after use.

    ``warnings`` say what is odd about the file, ``counts`` being what the child counted of each kind.
    """

    def __init__(self, facts: AudioFacts, pcm: IO[bytes], counts: Mapping[str, int]) -> None:
        self.facts = facts
        self.n_samples = os.fstat(pcm.fileno()).st_size // SAMPLE_BYTES
        self.warnings: tuple[AudioWarning, ...] = decode_warnings(counts, self.n_samples)
        self.n_segments = -(-self.n_samples // SEGMENT_SAMPLES)
        self._pcm = pcm

    def segments(self) -> Iterator[Samples]:
        """Reads one segment of 30 s at a time, of which the last may be shorter.

        yields float32, shape = (720000,) or less, mono at 24 kHz
        """
        return segments(self._chunks())

    def close(self) -> None:
        self._pcm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chunks(self) -> Iterator[Samples]:
        for start in range(0, self.n_samples, SEGMENT_SAMPLES):
            data = os.pread(self._pcm.fileno(), SEGMENT_SAMPLES * SAMPLE_BYTES, start * SAMPLE_BYTES)
            yield np.frombuffer(data, np.float32)


class DecodeSettings(Protocol):
    """The settings that a decoder is made from."""

    @property
    def audio_limits(self) -> AudioLimits: ...
    @property
    def decode_timeout_s(self) -> float: ...
    @property
    def decode_memory_bytes(self) -> int: ...


class Decoder:
    """Decodes tracks, each in a sandboxed child process of its own that is killed at its deadline.

    The children are forked from one warm process, which never sees torch, CUDA, or this process's environment.
    May be used from several threads at once. ``layers`` names the layers of `model.audio.sandbox.layers` that this
    machine could apply; it is known once the decoder is entered.
    """

    def __init__(
        self,
        limits: AudioLimits,
        *,
        timeout_s: float = 60.0,
        memory_bytes: int = 1 << 30,
        scratch_dir: Path,
        target: str = "model.audio.decoder_child:run",
    ) -> None:
        self.layers: tuple[str, ...] = ()
        self._limits = limits
        self._timeout_s = timeout_s
        self._scratch_dir = scratch_dir
        self._server = ForkServer(target)
        # The wall clock comes first: a limit on processor time alone is for a child that has lost its parent.
        ceilings = ResourceLimits(memory_bytes=memory_bytes, cpu_s=int(timeout_s) + 2, file_bytes=limits.max_pcm_bytes)
        self._request = {"limits": asdict(limits), "ceilings": asdict(ceilings)}

    def decode(self, file: BinaryIO | Path) -> DecodedTrack:
        """Decodes the whole of a regular file, given by its path or open (whatever its position), in its own child.

        Raises an AudioError that says why the track cannot be scored, be it broken, hostile, too long or too slow;
        OSError when this machine is at fault (no file, no process, no memory, a full disk, a stall): then trying again
        may help.
        """
        with ExitStack() as on_failure:
            pcm = on_failure.enter_context(tempfile.TemporaryFile(dir=self._scratch_dir))
            with _opened(file) as source_fd:
                facts, n_frames, counts = self._parse_reply(self._exchange(source_fd, pcm.fileno()))
            track = DecodedTrack(facts, pcm, counts)
            if track.n_samples != resampled_length(n_frames, facts.sample_rate_hz):
                raise decode_error("crash", self._limits)
            on_failure.pop_all()
            return track

    @property
    def missing_layers(self) -> tuple[str, ...]:
        """The sandbox layers that this machine cannot apply, known once the decoder is entered."""
        return tuple(name for name in LAYERS if name not in self.layers)

    def check_works(self) -> None:
        """Raises the OSError that a track would meet now: no process to be had, no room for one segment of samples."""
        with tempfile.TemporaryFile(dir=self._scratch_dir) as segment:
            segment.write(bytes(SEGMENT_SAMPLES * SAMPLE_BYTES))
            segment.flush()
            os.fsync(segment.fileno())
            with suppress(AudioError):  # it is no audio
                self.decode(segment).close()

    def close(self) -> None:
        """Ends the warm process; a decoder that is used again starts another."""
        self._server.close()

    @classmethod
    def from_settings(cls, settings: DecodeSettings, *, scratch_dir: Path) -> Self:
        """A decoder with the limits of the settings."""
        return cls(
            settings.audio_limits,
            timeout_s=settings.decode_timeout_s,
            memory_bytes=settings.decode_memory_bytes,
            scratch_dir=scratch_dir,
        )

    def __enter__(self) -> Self:
        with suppress(AudioError), tempfile.TemporaryFile(dir=self._scratch_dir) as empty:
            self.decode(empty)  # starts the warm process and learns which layers apply
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, source_fd: int, sink_fd: int) -> bytes:
        n_oom_kills = oom_kills()
        with self._server.fork(self._request, source_fd, sink_fd) as child:
            try:
                reply = child.reply(self._timeout_s)
            except TimeoutError:
                if child.cpu_s() < _MIN_BUSY_SHARE * self._timeout_s:
                    raise DecodeStalled("the decoder got no processor time, or waited for the disk") from None
                raise decode_error("time", self._limits) from None
        if not reply and not self._server.is_alive():
            raise ForkServerError("the fork server died, and the decoding child with it")
        if not reply and oom_kills() > n_oom_kills:
            # The child's own need is limited, and it says so itself when it meets the limit.
            raise OSError(errno.ENOMEM, "the kernel ended a process for lack of memory while a track was decoded")
        return reply

    def _parse_reply(self, reply: bytes) -> tuple[AudioFacts, int, dict[str, int]]:
        """The facts, the number of frames and the warnings in a child's reply, if each of them is plausible."""
        message = _json(reply)
        layers = message.get("layers")
        if isinstance(layers, list):
            self.layers = tuple(name for name in LAYERS if name in layers)
        match message:
            case {"refused": str(reason)} if reason in DECODE_ERRORS:
                raise decode_error(reason, self._limits)
            case {"errno": int(code)} if code in _STORAGE_ERRNOS:
                raise OSError(code, f"decoding failed: {os.strerror(code)}")
            case {
                "container": str(container),
                "codec": str(codec),
                "sample_rate_hz": int(rate_hz),
                "channels": int(channels),
                "n_frames": int(n_frames),
                "decoder": str(decoder),
                "warnings": dict(counts),
            } if container in BY_NAME and codec in CODECS and decoder in _DECODERS and rate_hz > 0:
                facts = AudioFacts(container, codec, rate_hz, channels, n_frames / rate_hz, decoder)
                if _within(facts, self._limits) and is_plausible(counts):
                    return facts, n_frames, counts
        raise decode_error("crash", self._limits)


def _within(facts: AudioFacts, limits: AudioLimits) -> bool:
    return (
        limits.min_sample_rate_hz <= facts.sample_rate_hz <= limits.max_sample_rate_hz
        and 1 <= facts.channels <= limits.max_channels
        and limits.min_duration_s <= facts.duration_s <= limits.max_duration_s
    )


def _json(text: bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


@contextmanager
def temporary_decoder(settings: DecodeSettings) -> Iterator[Decoder]:
    """A decoder with the limits of the settings and a scratch folder of its own, until the block ends."""
    with (
        temporary_directory("scratch") as scratch_dir,
        Decoder.from_settings(settings, scratch_dir=scratch_dir) as decoder,
    ):
        yield decoder


@contextmanager
def _opened(file: BinaryIO | Path) -> Iterator[int]:
    """A descriptor of the file that can only be read, with a position of its own."""
    # A file that is open already is opened anew, so that the child gets neither its position nor a right to write.
    path, nofollow = (file, os.O_NOFOLLOW) if isinstance(file, Path) else (f"/proc/self/fd/{file.fileno()}", 0)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | nofollow)  # no waiting for a pipe's writer
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "only a regular file can be decoded")
        yield fd
    finally:
        os.close(fd)
