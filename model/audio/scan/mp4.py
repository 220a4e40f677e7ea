"""MP4 and QuickTime: boxes, of which `mdat` holds the sound and `moov` says where in it."""

from model.audio.byte_ranges import Source
from model.audio.decode_errors import DecodeRejected
from model.audio.scan.layout import Layout, tail_bytes

_MAX_BOXES = 1_000_000
_SHORT_HEADER_BYTES, _LONG_HEADER_BYTES = 8, 16


def scan(source: Source, start: int) -> Layout:
    """Walk over the outer boxes. Raises DecodeRejected where one of sound is longer than the file."""
    layout = Layout([range(start, source.n_bytes)])
    at, names = start, set[bytes]()
    for _ in range(_MAX_BOXES):
        name, n_bytes = _box(source, at)
        if not n_bytes:
            break
        if name == b"mdat" and at + n_bytes > source.n_bytes:
            raise DecodeRejected("truncated")
        names.add(name)
        at += n_bytes
    if {b"mdat", b"moov"} <= names and at < source.n_bytes:
        layout.warnings["trailing_data_ignored"] = tail_bytes(source, at)
        layout.parts = [range(start, at)]
    return layout


def _box(source: Source, at: int) -> tuple[bytes, int]:
    """The name of a box and its length; 0 where there is none."""
    header = source.read_at(at, _LONG_HEADER_BYTES)
    size, name = int.from_bytes(header[:4], "big"), header[4:8]
    if len(header) < _SHORT_HEADER_BYTES or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name):
        return name, 0
    if size == 0:
        return name, source.n_bytes - at  # to the end of the file
    if size == 1:
        size = int.from_bytes(header[8:16], "big")
        return name, size if size >= _LONG_HEADER_BYTES else 0
    return name, size if size >= _SHORT_HEADER_BYTES else 0
