"""CAF: given to the decoder as the chunks that describe the sound and the sound, with sizes that are right.

The chunk that describes the layout of the channels stays out: their mean needs none, and PyAV frees such a layout
twice.
"""

import struct

from model.audio.byte_ranges import Part, Source
from model.audio.decode_errors import DecodeRejected
from model.audio.scan.chunks import CAF, read_chunks, settle_end
from model.audio.scan.layout import Layout

_FILE_HEADER_BYTES = 8
_EDIT_COUNT_BYTES = 4
_DESCRIPTION_BYTES = 32
_PACKET_TABLE_HEADER_BYTES = 24


def scan(source: Source, start: int) -> Layout:
    """Find the sound of a CAF, wherever its packet table stands."""
    at = start + _FILE_HEADER_BYTES
    found = read_chunks(source, at, CAF, data=b"data", keep={b"desc", b"kuki", b"pakt"})
    description = found.body(b"desc")
    if len(description) != _DESCRIPTION_BYTES:
        raise DecodeRejected("broken")
    if description[8:12] == b"lpcm":
        settle_end(found, None)
    sound = [range(min(data.start + _EDIT_COUNT_BYTES, data.stop), data.stop) for data in found.data]
    head = source.read_at(start, _FILE_HEADER_BYTES) + _chunk(b"desc", _with_container_bits(description))
    head += _chunk(b"kuki", _cookie(found.body(b"kuki"))) if b"kuki" in found.chunks else b""
    size = sum(map(len, sound)) + _EDIT_COUNT_BYTES
    pakt = _packet_table(source, found.chunks.get(b"pakt", range(0)), description[8:12])
    data_head = struct.pack(">4sQI", b"data", size, 0)
    return Layout([head, *pakt, data_head, *sound], found.warnings)


def _cookie(cookie: bytes) -> bytes:
    """A description of AAC as FFmpeg reads it: it skips four bytes, which only the long form of a length can spare."""
    short_form = cookie[:1] == b"\x03" and cookie[1:4] != b"\x80\x80\x80"
    return bytes(4) + cookie if short_form else cookie


def _packet_table(source: Source, table: range, codec: bytes) -> list[Part]:
    """The lengths of the packets. An ALAC packet says itself how much of it is sound, and FFmpeg would cut it again."""
    if len(table) < _PACKET_TABLE_HEADER_BYTES:
        return []
    head = source.read_at(table.start, _PACKET_TABLE_HEADER_BYTES)
    head = head[:16] + bytes(8) if codec == b"alac" else head
    lengths = range(table.start + _PACKET_TABLE_HEADER_BYTES, table.stop)
    return [struct.pack(">4sQ", b"pakt", len(table)) + head, lengths]


def _with_container_bits(description: bytes) -> bytes:
    """The same format with as many bits a sample as its bytes have, as in `model.audio.scan.wav`."""
    rate, kind, flags, packet_bytes, packet_frames, channels, bits = struct.unpack(">d4s5I", description)
    sample_bytes, rest = divmod(packet_bytes, channels) if channels else (0, 1)
    if kind != b"lpcm" or rest or sample_bytes not in (1, 2, 3, 4) or flags & 1 or not 0 < bits <= 8 * sample_bytes:
        return description
    return struct.pack(">d4s5I", rate, kind, flags, packet_bytes, packet_frames, channels, 8 * sample_bytes)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">4sQ", name, len(body)) + body
