"""WAV, RF64, RIFX and Wave64: given to the decoder as one plain WAV of a `fmt ` and a `data` chunk."""

import struct
from dataclasses import dataclass

from model.audio.byte_ranges import Source
from model.audio.containers import W64_RIFF
from model.audio.decode_errors import DecodeRejected
from model.audio.scan import au
from model.audio.scan.chunks import RIFF, W64, ChunkFile, ChunkFormat, read_chunks, settle_end
from model.audio.scan.layout import Layout

_RIFX = ChunkFormat(struct.Struct(">I"), alignment=2)
_W64_FMT, _W64_DATA = (name + bytes.fromhex("f3acd3118cd100c04f8edb8a") for name in (b"fmt ", b"data"))
_W64_HEADER_BYTES = 40
_HEADER_BYTES = 12
_UNKNOWN = 0xFFFFFFFF
_UNKNOWN_FROM = 0x7FFF0000
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
#: AU's codes for what RIFX may hold, by format and bits.
_AU_ENCODINGS = {(_PCM, 16): 3, (_PCM, 24): 4, (_PCM, 32): 5, (_FLOAT, 32): 6, (_FLOAT, 64): 7}


@dataclass(frozen=True)
class _Format:
    """A `fmt ` chunk: its bytes, the order of theirs, and what they say."""

    body: bytes
    order: str
    tag: int
    channels: int
    rate_hz: int
    bits: int

    @classmethod
    def read(cls, body: bytes, order: str) -> "_Format":
        """Raises DecodeRejected where there is none.

        Samples of fewer bits than their bytes have fill these from the top (the rest is zero), so that 24 bits in 32
        are 32 bits. FFmpeg takes the number of bits for that of the bytes; so it is made the same.
        """
        if len(body) < 16:
            raise DecodeRejected("broken")
        tag, channels, rate_hz, _, block_bytes, bits = struct.unpack_from(f"{order}HHIIHH", body)
        if tag == _EXTENSIBLE and len(body) >= 40:
            (tag,) = struct.unpack_from(f"{order}H", body, 24)
        sample_bytes, rest = divmod(block_bytes, channels) if channels else (0, 1)
        if tag == _PCM and not rest and sample_bytes in (1, 2, 3, 4) and 0 < bits <= 8 * sample_bytes:
            bits = 8 * sample_bytes
            valid = body[16:18] + struct.pack(f"{order}H", bits) + body[20:] if len(body) >= 40 else body[16:]
            body = body[:14] + struct.pack(f"{order}H", bits) + valid
        return cls(body, order, tag, channels, rate_hz, bits)


def scan(source: Source, start: int) -> Layout:
    """Find all data chunks of a WAV and describe them by one header whose sizes are right."""
    outer = source.read_at(start, _HEADER_BYTES)
    if outer.startswith(W64_RIFF[:4]):
        found = _read_w64(source, start)
        return _as_wav(found, _Format.read(found.body(_W64_FMT), "<"))
    order, form = (">", _RIFX) if outer.startswith(b"RIFX") else ("<", RIFF)
    (size,) = struct.unpack_from(f"{order}I", outer, 4)
    found = read_chunks(source, start + _HEADER_BYTES, form, data=b"data", keep={b"fmt ", b"ds64"})
    settle_end(found, start + 8 + size if 0 < size < _UNKNOWN_FROM else None)
    fmt = _Format.read(found.body(b"fmt "), order)
    return _as_au(found, fmt) if order == ">" else _as_wav(found, fmt)


def _read_w64(source: Source, start: int) -> ChunkFile:
    size = int.from_bytes(source.read_at(start + 16, 8), "little")
    found = read_chunks(source, start + _W64_HEADER_BYTES, W64, data=_W64_DATA, keep={_W64_FMT})
    settle_end(found, start + size if 0 < size < 1 << 62 else None)
    return found


def _as_wav(found: ChunkFile, fmt: _Format) -> Layout:
    body = fmt.body + bytes(len(fmt.body) % 2)
    n_bytes = sum(map(len, found.data))
    outer_bytes, data_bytes = (min(size, _UNKNOWN) for size in (20 + len(body) + n_bytes, n_bytes))
    head = struct.pack("<4sI8sI", b"RIFF", outer_bytes, b"WAVEfmt ", len(body)) + body
    return Layout([head + struct.pack("<4sI", b"data", data_bytes), *found.data], found.warnings)


def _as_au(found: ChunkFile, fmt: _Format) -> Layout:
    """A RIFX as the other format whose high byte comes first: FFmpeg would read its samples the wrong way around."""
    encoding = _AU_ENCODINGS.get((fmt.tag, fmt.bits))
    if encoding is None:
        raise DecodeRejected("codec")
    head = au.header(sum(map(len, found.data)), encoding, fmt.rate_hz, fmt.channels)
    return Layout([head, *found.data], found.warnings, opened_as="au")
