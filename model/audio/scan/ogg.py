"""Ogg: pages with checksums and numbers, several streams at once or one after another.

Source: RFC 3533. A page that is cut in two proves that sound is missing; a missing end flag does not.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from model.audio.byte_ranges import Part, Source
from model.audio.decode_errors import DecodeRejected
from model.audio.scan.layout import Layout, tail_bytes

_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST, _LAST = 1, 2, 4
#: So many pages are written anew at most; they are held in memory.
_MAX_MENDED_PAGES = 1000
#: Each may be read many times over, where it holds the start marks of others.
_MAX_BAD_PAGES = 1000
_AUDIO = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"fLaC", b"Speex   ")
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class _Page:
    at: int
    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    #: Whether the checksum is right: decoders pass over a page whose is not.
    is_sound: bool

    @property
    def n_bytes(self) -> int:
        return _HEADER.size + len(self.lacing) + sum(self.lacing)

    @property
    def _before_first(self) -> bytes:
        """The size before the first: a packet goes on where that was 255."""
        return b"\xff" if self.flags & _CONTINUED else b"\0"

    @property
    def has_empty_packets(self) -> bool:
        """Whether a packet of no bytes begins and ends on this page."""
        return any(size == 0 and before < 255 for before, size in pairwise(self._before_first + self.lacing))

    def written(self, body: bytes) -> bytes:
        """The page with what it holds, empty packets left out; nothing where nothing is left."""
        sizes = pairwise(self._before_first + self.lacing)
        lacing = bytes(size for before, size in sizes if size or before == 255)
        if not lacing:
            return b""
        head = _HEADER.pack(b"OggS", 0, self.flags, self.granule, self.serial, self.number, 0, len(lacing))
        page = head + lacing + body
        return page[:22] + struct.pack("<I", _checksum(page)) + page[26:]


@dataclass
class _Stream:
    """What is known of one logical stream: its last page, and the last one that holds data."""

    is_audio: bool
    last: _Page
    last_with_data: _Page


class _PageWalk:
    """A walk over all pages of a file, which follows the streams of its last chain."""

    def __init__(self) -> None:
        self.streams: dict[int, _Stream] = {}
        self.n_chains = 1
        self.n_pages = self.n_packets = 0
        self._n_missing_pages = self._n_bad_pages = 0
        self._begun = False
        self.end = 0

    @property
    def n_lost(self) -> int:
        """About how many packets were in the pages that are missing or whose checksum is wrong."""
        n_pages = max(self._n_missing_pages, self._n_bad_pages)
        return -(-n_pages * self.n_packets // max(1, self.n_pages))

    def add(self, page: _Page, head: bytes) -> None:
        """Take the next page; ``head`` is the start of what it holds."""
        self.n_pages += 1
        self.end = page.at + page.n_bytes
        if not page.is_sound:
            self._n_bad_pages += 1
            return
        self.n_packets += sum(size < 255 for size in page.lacing)
        if page.flags & _FIRST:
            self._begin(page, head)
        elif stream := self.streams.get(page.serial):
            self._begun = True
            self._n_missing_pages += min(max(0, page.number - stream.last.number - 1), 1 << 20)
            stream.last = page
            if sum(page.lacing):
                stream.last_with_data = page

    def _begin(self, page: _Page, head: bytes) -> None:
        if self._begun:
            self.n_chains, self._begun, self.streams = self.n_chains + 1, False, {}
        self.streams[page.serial] = _Stream(head.startswith(_AUDIO), page, page)

    def audio(self) -> list[_Stream]:
        """The audio streams of the last chain."""
        return [stream for stream in self.streams.values() if stream.is_audio]


def scan(source: Source, start: int) -> Layout:
    """Walk over the pages of an Ogg. Raises DecodeRejected where the last page or packet is cut in two.

    Empty packets are left out, and an end flag that stands on an empty page is moved to the last page that holds sound:
    there decoders look for the end.
    """
    walk, mended = _PageWalk(), dict[int, _Page]()
    for page in _pages(source, start):
        walk.add(page, source.read_at(page.at + _HEADER.size + len(page.lacing), 8))
        if page.is_sound and page.has_empty_packets and len(mended) < _MAX_MENDED_PAGES:
            mended[page.at] = page
    streams = walk.audio()
    if any(stream.last.lacing.endswith(b"\xff") and not stream.last.flags & _LAST for stream in streams):
        raise DecodeRejected("truncated")
    for stream in filter(_ends_on_an_empty_page, streams):
        last, before = stream.last, stream.last_with_data
        granule = last.granule if last.granule >= 0 else before.granule
        mended |= {before.at: replace(before, flags=before.flags | _LAST, granule=granule), last.at: last}
    return Layout(list(_parts(source, start, [mended[at] for at in sorted(mended)])), _warnings(source, walk))


def _parts(source: Source, start: int, mended: list[_Page]) -> Iterator[Part]:
    """The file with these pages written anew."""
    at = start
    for page in mended:
        yield range(at, page.at)
        body_at = page.at + _HEADER.size + len(page.lacing)
        at = page.at + page.n_bytes
        yield page.written(source.read_at(body_at, at - body_at))
    yield range(at, source.n_bytes)


def _warnings(source: Source, walk: _PageWalk) -> Counter[str]:
    counts = {
        "joined_streams": walk.n_chains if walk.n_chains > 1 else 0,
        "end_mark_missing": int(any(not stream.last.flags & _LAST for stream in walk.audio())),
        "packets_skipped": walk.n_lost,
        "trailing_data_ignored": tail_bytes(source, walk.end) if walk.n_pages else 0,
    }
    return Counter({code: count for code, count in counts.items() if count})


def _pages(source: Source, at: int) -> Iterator[_Page]:
    """Every whole page. Raises DecodeRejected where the file ends within one."""
    n_bad = 0
    while (at := source.find(b"OggS\0", at, source.n_bytes)) >= 0:
        header = source.read_at(at, _HEADER.size)
        if len(header) < _HEADER.size:
            raise DecodeRejected("truncated")
        _, _, flags, granule, serial, number, checksum, n_lacing = _HEADER.unpack(header)
        lacing = source.read_at(at + _HEADER.size, n_lacing)
        page_bytes = source.read_at(at, _HEADER.size + n_lacing + sum(lacing))
        if len(lacing) < n_lacing or len(page_bytes) < _HEADER.size + n_lacing + sum(lacing):
            raise DecodeRejected("truncated")
        is_sound = _checksum(page_bytes) == checksum
        yield _Page(at, flags, granule, serial, number, lacing, is_sound)
        at += len(page_bytes) if is_sound else len(b"OggS\0")
        n_bad += not is_sound
        if n_bad > _MAX_BAD_PAGES:
            raise DecodeRejected("damaged")


def _checksum(page: bytes) -> int:
    """A page's checksum: that of zip, read from the other end of every byte."""
    blank = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(blank.translate(_REVERSED_BITS), 2**32 - 1) ^ 2**32 - 1
    return int(f"{found:032b}"[::-1], 2)


def _ends_on_an_empty_page(stream: _Stream) -> bool:
    last, before = stream.last, stream.last_with_data
    return bool(last.flags & _LAST) and last is not before and not before.flags & (_LAST | _FIRST)
