"""Takes an Ogg apart into pages, and puts pages together with right checksums."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

CONTINUED, FIRST, LAST = 1, 2, 4
_HEADER = struct.Struct("<4sBBqIIIB")
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Page:
    """A page of an Ogg; `bytes(page)` has the right checksum."""

    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    body: bytes

    def __bytes__(self) -> bytes:
        head = _HEADER.pack(b"OggS", 0, self.flags, self.granule, self.serial, self.number, 0, len(self.lacing))
        return sealed(head + self.lacing + self.body)


def pages(data: bytes) -> list[Page]:
    """The pages of an Ogg without anything between them."""
    found, at = list[Page](), 0
    while at < len(data):
        _, _, flags, granule, serial, number, _, n_lacing = _HEADER.unpack_from(data, at)
        body_at = at + _HEADER.size + n_lacing
        lacing = data[at + _HEADER.size : body_at]
        found.append(Page(flags, granule, serial, number, lacing, data[body_at : body_at + sum(lacing)]))
        at = body_at + sum(lacing)
    return found


def joined(parts: Iterable[Page]) -> bytes:
    """The pages behind one another, numbered anew."""
    return b"".join(bytes(replace(page, number=number)) for number, page in enumerate(parts))


def packets(page_list: Iterable[Page]) -> list[bytes]:
    """The packets of pages that begin and end with whole ones."""
    found, rest = list[bytes](), b""
    for page in page_list:
        at = 0
        for size in page.lacing:
            rest, at = rest + page.body[at : at + size], at + size
            if size < 255:
                found, rest = [*found, rest], b""
    return found


def page_of(packet_list: Iterable[bytes], *, serial: int, granule: int = 0, flags: int = 0) -> Page:
    """A page of whole packets."""
    body = list(packet_list)
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in body)
    return Page(flags, granule, serial, 0, lacing, b"".join(body))


def sealed(page: bytes) -> bytes:
    """The page with its right checksum: that of zip, read from the other end of every byte."""
    blank = page[:22] + bytes(4) + page[26:]
    checksum = zlib.crc32(blank.translate(_REVERSED_BITS), 2**32 - 1) ^ 2**32 - 1
    return page[:22] + int(f"{checksum:032b}"[::-1], 2).to_bytes(4, "little") + page[26:]
