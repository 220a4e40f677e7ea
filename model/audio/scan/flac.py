"""FLAC: a header that declares the number of samples, then frames; and several such files joined."""

from itertools import pairwise

from model.audio.byte_ranges import Part, Source
from model.audio.scan.layout import Layout, end_without_tags

#: The mark, and the header of the block that always comes first, of 34 bytes.
_START = b"fLaC\x00\x00\x00\x22"
_STREAMINFO_AT = 8
_LAST_BLOCK_FLAG = 0x80
_MAX_BLOCKS = 10_000


def scan(source: Source, start: int) -> Layout:
    """Find the frames of a FLAC; the headers of others that were appended to it are left out."""
    end = end_without_tags(source, start)
    starts = _starts(source, start, end)
    totals = [_total_samples(source, at) for at in starts]
    parts: list[Part] = [
        range(at if at == start else _frames_at(source, at), stop) for at, stop in pairwise([*starts, end])
    ]
    layout = Layout(parts, declared_samples=sum(totals) if all(totals) else 0)
    if len(starts) > 1:
        layout.warnings["joined_streams"] = len(starts)
    return layout


def _starts(source: Source, start: int, end: int) -> list[int]:
    found = [start]
    while len(found) < 1000 and (at := source.find(_START, found[-1] + 1, end)) >= 0:
        found.append(at)
    return found


def _total_samples(source: Source, at: int) -> int:
    """36 bits of the first block; 0 where the writer did not know."""
    return int.from_bytes(source.read_at(at + _STREAMINFO_AT + 10, 8), "big") & (1 << 36) - 1


def _frames_at(source: Source, at: int) -> int:
    at += 4
    for _ in range(_MAX_BLOCKS):
        header = source.read_at(at, 4)
        at += 4 + int.from_bytes(header[1:], "big")
        if len(header) < 4 or header[0] & _LAST_BLOCK_FLAG:
            break
    return at
