"""Matroska and WebM: elements within elements, of which clusters and blocks hold the sound.

Source: RFC 8794 and RFC 9559. Recorders leave sizes unknown, so a cluster may simply go on until the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from model.audio.byte_ranges import Source
from model.audio.decode_errors import DecodeRejected
from model.audio.scan.layout import Layout

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_SOUND = frozenset([_CLUSTER, 0xA3, 0xA0])  # SimpleBlock, BlockGroup
#: What may stand behind the sound: an index, tags, padding. A file that was cut within these has all of its sound.
_NO_SOUND = frozenset([0x1C53BB6B, 0x1254C367, 0xEC, 0x114D9B74, 0x1941A469, 0x1043A770])
_MAX_ELEMENTS = 2_000_000
_MAX_HEADER_BYTES = 12


@dataclass(frozen=True)
class _Element:
    id: int
    body_at: int
    #: None where the writer did not know.
    end: int | None


def scan(source: Source, start: int) -> Layout:
    """Walk over the elements. Raises DecodeRejected where a block, a cluster or the whole is longer than the file."""
    segment_end, last_id = None, 0
    for element in _elements(source, start):
        last_id = element.id
        if element.id == _SEGMENT:
            segment_end = element.end
        elif element.id in _SOUND and element.end is not None and element.end > source.n_bytes:
            raise DecodeRejected("truncated")
    if segment_end is not None and segment_end > source.n_bytes and last_id not in _NO_SOUND:
        raise DecodeRejected("truncated")
    return Layout([range(start, source.n_bytes)])


def _elements(source: Source, at: int) -> Iterator[_Element]:
    """The elements of the outer level, of segments and of clusters, in the order of the file."""
    for _ in range(_MAX_ELEMENTS):
        element = _element(source, at)
        if element is None:
            return
        yield element
        inside = element.id in (_SEGMENT, _CLUSTER)
        if not inside and element.end is None:
            return
        at = element.body_at if inside or element.end is None else element.end


def _element(source: Source, at: int) -> _Element | None:
    header = source.read_at(at, _MAX_HEADER_BYTES)
    id_bytes = _length(header[:1], 4)
    size_bytes = _length(header[id_bytes : id_bytes + 1], 8)
    if not id_bytes or not size_bytes or len(header) < id_bytes + size_bytes:
        return None
    body_at = at + id_bytes + size_bytes
    size = int.from_bytes(header[id_bytes : id_bytes + size_bytes], "big") & (1 << 7 * size_bytes) - 1
    unknown = size == (1 << 7 * size_bytes) - 1
    return _Element(int.from_bytes(header[:id_bytes], "big"), body_at, None if unknown else body_at + size)


def _length(first: bytes, longest: int) -> int:
    """How many bytes a number takes that begins with this one; 0 where none may."""
    n_bytes = 9 - first[0].bit_length() if first and first[0] else 0
    return n_bytes if n_bytes <= longest else 0
