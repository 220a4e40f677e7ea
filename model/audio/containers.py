"""The containers and codecs that are taken, and how a file's first bytes tell a container.

Standard library only: the HTTP front end refuses a file by its first bytes, without any decoder.
"""

from collections.abc import Callable
from dataclasses import dataclass

#: As many leading bytes as `sniff` needs; more are not looked at.
SNIFF_BYTES = 64

#: Codecs that are decoded whatever the container, under FFmpeg's names. Every other decoder stays out of reach.
CODECS = frozenset(
    ["flac", "mp3", "vorbis", "opus", "aac", "alac", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8"]
    + [f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")]
)

_ID3_HEADER_BYTES = 10
#: HEIF and AVIF pictures share the MP4 box structure.
_PICTURE_BRANDS = (b"heic", b"heix", b"heif", b"avif", b"avis", b"mif1", b"msf1", b"crx ")


@dataclass(frozen=True)
class Container:
    """A container that is taken: our name, FFmpeg's demuxer, and the test of its first bytes."""

    name: str
    demuxer: str
    begins: Callable[[bytes], bool]


def _magic(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(prefixes)


def _form(outer: tuple[bytes, ...], inner: tuple[bytes, ...]) -> Callable[[bytes], bool]:
    return lambda head: head[:4] in outer and head[8:12] in inner


def _is_mp4(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and len(head) >= 12 and head[8:12] not in _PICTURE_BRANDS


def _is_mp3(head: bytes) -> bool:
    return id3_bytes(head) > 0 or _is_mp3_frame(head)


def _is_mp3_frame(head: bytes) -> bool:
    """A frame header of MPEG 1, 2 or 2.5, layer III, with a bit rate and a sample rate that exist."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    version, bit_rate, sample_rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and bit_rate not in (0, 15) and sample_rate != 3


def _is_adts(head: bytes) -> bool:
    """An ADTS header (layer bits 0) with a sample rate that exists and a frame longer than its own header."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    frame_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return head[2] >> 2 & 15 < 13 and frame_bytes > 7


#: Every container that is taken. The tests exclude one another, so the order carries no meaning.
CONTAINERS = (
    Container("wav", "wav", _form((b"RIFF", b"RIFX", b"RF64", b"BW64"), (b"WAVE",))),
    Container("flac", "flac", _magic(b"fLaC")),
    Container("mp3", "mp3", _is_mp3),
    Container("ogg", "ogg", _magic(b"OggS")),
    Container("mp4", "mov", _is_mp4),
    Container("aac", "aac", _is_adts),
    Container("aiff", "aiff", _form((b"FORM",), (b"AIFF", b"AIFC"))),
    Container("webm", "matroska", _magic(b"\x1a\x45\xdf\xa3")),
)

BY_NAME = {container.name: container for container in CONTAINERS}


def sniff(head: bytes) -> str | None:
    """Names the container that a file's first SNIFF_BYTES bytes announce, or None where it is none that is taken.

    An ID3 tag counts as MP3, its usual owner. Whether the rest of the file keeps the promise, only decoding can tell.
    """
    return next((container.name for container in CONTAINERS if container.begins(head[:SNIFF_BYTES])), None)


def id3_bytes(head: bytes) -> int:
    """Length of the ID3v2 tag that a file begins with, 0 where there is none."""
    if len(head) < _ID3_HEADER_BYTES or head[:3] != b"ID3" or 0xFF in head[3:5] or max(head[6:10]) > 0x7F:
        return 0
    body = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]  # seven bits a byte, so that no size looks like sync
    return _ID3_HEADER_BYTES + body
