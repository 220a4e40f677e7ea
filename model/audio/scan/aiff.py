"""AIFF and AIFC: given to the decoder as one file of a `COMM` and an `SSND` chunk whose numbers are right.

Chunks that describe the layout of the channels stay out: their mean needs none, and PyAV frees such a layout twice.
"""

import struct

from model.audio.byte_ranges import Source
from model.audio.decode_errors import DecodeRejected
from model.audio.scan.chunks import IFF, ChunkFile, read_chunks, settle_end
from model.audio.scan.layout import Layout

_HEADER_BYTES = 12
_UNKNOWN_FROM = 0x7FFF0000
_SOUND_HEADER_BYTES = 8
_COMM_BYTES = 18
#: Bytes of a sample by its compression type, where that says it; else its bits do.
_SAMPLE_BYTES = {
    b"alaw": 1, b"ALAW": 1, b"ulaw": 1, b"ULAW": 1, b"raw ": 1, b"in24": 3, b"42ni": 3, b"in32": 4, b"23ni": 4,
    b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8,
}  # fmt: skip
_BY_BITS = (b"NONE", b"twos", b"sowt")


def scan(source: Source, start: int) -> Layout:
    """Find the sound of an AIFF; the number of samples that its header declares is put right."""
    outer, size, kind = struct.unpack(">4sI4s", source.read_at(start, _HEADER_BYTES))
    found = read_chunks(source, start + _HEADER_BYTES, IFF, data=b"SSND", keep={b"COMM"})
    settle_end(found, start + 8 + size if 0 < size < _UNKNOWN_FROM else None)
    sound = [_sound(source, chunk) for chunk in found.data]
    common = found.body(b"COMM")
    if len(common) < _COMM_BYTES:
        raise DecodeRejected("broken")
    n_bytes = sum(map(len, sound))
    common = _with_length(common, kind, n_bytes, found)
    body = b"".join([kind, _chunk(b"COMM", common), b"SSND", struct.pack(">III", n_bytes + 8 & 0xFFFFFFFF, 0, 0)])
    return Layout([outer + struct.pack(">I", len(body) + n_bytes & 0xFFFFFFFF) + body, *sound], found.warnings)


def _sound(source: Source, chunk: range) -> range:
    (offset,) = struct.unpack(">I", source.read_at(chunk.start, 4).rjust(4, b"\0"))
    return range(min(chunk.start + _SOUND_HEADER_BYTES + offset, chunk.stop), chunk.stop)


def _with_length(common: bytes, kind: bytes, n_bytes: int, found: ChunkFile) -> bytes:
    channels, declared, bits = struct.unpack_from(">HIH", common)
    compression = common[18:22] if kind == b"AIFC" else b"NONE"
    sample_bytes = (bits + 7) // 8 if compression in _BY_BITS else _SAMPLE_BYTES.get(compression, 0)
    if not channels or not sample_bytes:
        return common
    n_samples = n_bytes // (channels * sample_bytes)
    if declared not in (n_samples, 0):
        found.warnings["declared_length_differs"] = 1
    return common[:2] + struct.pack(">I", n_samples & 0xFFFFFFFF) + common[6:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">4sI", name, len(body)) + body + bytes(len(body) % 2)
