"""AU (`.snd`): a header of six numbers or more, then the sound."""

import struct

from model.audio.byte_ranges import Source
from model.audio.decode_errors import DecodeRejected
from model.audio.scan.layout import Layout, fit_to_file, settle_tail

_HEADER_BYTES = 24
_UNKNOWN_FROM = 0x7FFF0000


def scan(source: Source, start: int) -> Layout:
    """Find the sound of an AU file, given to a decoder behind a header of the right size and without a comment."""
    head = source.read_at(start, _HEADER_BYTES)
    if len(head) < _HEADER_BYTES:
        raise DecodeRejected("broken")
    _, offset, size, *sound = struct.unpack(">4s5I", head)
    layout = Layout([])
    if offset < _HEADER_BYTES:
        raise DecodeRejected("broken")
    data = fit_to_file(source, start + offset, size, _UNKNOWN_FROM, layout.warnings)
    data = settle_tail(source, data, None, layout.warnings)
    layout.parts = [header(len(data), *sound), data]
    return layout


def header(n_bytes: int, encoding: int, rate_hz: int, channels: int) -> bytes:
    """The header of an AU file with so many bytes of sound."""
    size = min(n_bytes, 0xFFFFFFFF)
    return struct.pack(">4s5I4x", b".snd", _HEADER_BYTES + 4, size, encoding, rate_hz, channels)
