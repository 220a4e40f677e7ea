"""The second decoder: libsndfile through soundfile, for files that FFmpeg cannot open. Imported by the decoding child.

It recognises two dozen containers by itself. It is given only files that begin like one of those that are taken, and
what it finds in them must be of that format and in a codec that is taken.
"""

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import soundfile

from model.audio.containers import Container
from model.audio.decode_errors import DecodeRejected
from model.audio.pcm import Samples
from model.audio.scan.layout import Layout
from model.audio.stream_validator import StreamValidator

NAME = "libsndfile"
BLOCK_SAMPLES = 1 << 16
MALFORMED_FILE_ERRORS = (soundfile.SoundFileError, ValueError, LookupError, RuntimeError, ArithmeticError)
#: FFmpeg's names for what libsndfile calls subtypes; of PCM without the order of its bytes.
_CODECS = {
    "VORBIS": "vorbis",
    "OPUS": "opus",
    "MPEG_LAYER_III": "mp3",
    "ULAW": "pcm_mulaw",
    "ALAW": "pcm_alaw",
    "PCM_U8": "pcm_u8",
    "PCM_S8": "pcm_s8",
    "ALAC_16": "alac",
    "ALAC_20": "alac",
    "ALAC_24": "alac",
    "ALAC_32": "alac",
}
_ORDERED_CODECS = {
    "PCM_16": "pcm_s16",
    "PCM_24": "pcm_s24",
    "PCM_32": "pcm_s32",
    "FLOAT": "pcm_f32",
    "DOUBLE": "pcm_f64",
}
_BIG_ENDIAN = ("AIFF", "AU", "CAF")


class _Reader(soundfile.SoundFile):  # type: ignore[misc]
    """Reads from the front to the end. soundfile itself seeks after every block, which moves Opus by 0.1 s."""

    def seekable(self) -> bool:
        return False


def _warm_up() -> None:
    """Decode a file of one sample, so that what libffi looks up once is looked up outside of the sandbox."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 38, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 2)
    with soundfile.SoundFile(io.BytesIO(head + bytes(2))) as opened:
        opened.read()


_warm_up()


def decode(
    file: BinaryIO,
    container: Container,
    _layout: Layout,
    validator: StreamValidator,
    write: Callable[[list[Samples]], None],
) -> str:
    """Decode a track into blocks of float32, shape = (n_frames,) per channel; return the codec's name.

    Raises DecodeRejected or one of MALFORMED_FILE_ERRORS.
    """
    with _Reader(file) as opened:
        codec = _codec(opened.format, opened.subtype)
        if opened.format not in container.libsndfile or not codec:
            raise DecodeRejected("broken")
        validator.expect(opened.samplerate, opened.channels)
        opened.seek(0)  # an Opus that was just opened does not stand at its first sample
        while len(block := opened.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
            validator.admit(len(block), opened.samplerate, opened.channels)
            write(list(np.ascontiguousarray(block.T)))
    return codec


def _codec(container: str, subtype: str) -> str:
    if container == "FLAC":
        return "flac"
    if subtype in _ORDERED_CODECS:
        return _ORDERED_CODECS[subtype] + ("be" if container in _BIG_ENDIAN else "le")
    return _CODECS.get(subtype, "")
