"""The containers and codecs that are taken, and where in a file's first bytes a container begins.

Standard library only: the HTTP front end refuses a file by its first bytes, without any decoder.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from model.audio.mpeg_frames import START_MARK, starts_frames

#: As many bytes as tell a container that begins with them.
SNIFF_BYTES = 1024
#: How much may stand before the container, tags not counted: zeros, an HTTP header, the rest of something else.
MAX_LEADING_BYTES = 64 * 1024
#: As many leading bytes as `detect_container` needs; more are not looked at.
HEAD_BYTES = MAX_LEADING_BYTES + 16 * 1024

#: Codecs that are decoded whatever the container, under FFmpeg's names. Every other decoder stays out of reach.
CODECS = frozenset(
    ["flac", "mp3", "vorbis", "opus", "aac", "alac", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8"]
    + [f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")]
)

W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_WAVE = bytes.fromhex("77617665f3acd3118cd100c04f8edb8a")
#: HEIF and AVIF pictures share the MP4 box structure.
_PICTURE_BRANDS = (b"heic", b"heix", b"heif", b"avif", b"avis", b"mif1", b"msf1", b"crx ")
_MAX_TAGS = 64
_MAX_ID3_BYTES = 1 << 28
_ID3_HEADER_BYTES = 10
_ID3_FOOTER_FLAG = 0x10
_APE_HEADER_BYTES = 32
_TS_PACKET_BYTES = 188
#: What begins like one of these is that and not junk before audio, whatever it may hold.
_OTHER_FILES = (
    b"<", b"%PDF", b"PK\x03\x04", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x7fELF", b"MZ", b"#!",
    b"#EXTM3U", b"ffconcat", b"v=0", b"MThd", b"RIFF", b"FORM", b"{", b"Rar!", b"7z\xbc\xaf",
)  # fmt: skip

ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Container:
    """A container that is taken: our name, FFmpeg's demuxer, and the test of its first bytes.

    ``libsndfile`` holds the formats under which libsndfile may open it, none where it cannot.
    """

    name: str
    demuxer: str
    begins: Callable[[bytes], bool]
    libsndfile: tuple[str, ...] = ()


def _magic(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(prefixes)


def _form(outer: tuple[bytes, ...], inner: tuple[bytes, ...]) -> Callable[[bytes], bool]:
    return lambda head: head[:4] in outer and head[8:12] in inner


def _is_mp4(head: bytes) -> bool:
    if len(head) < 12:
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in _PICTURE_BRANDS
    # QuickTime files from before `ftyp`, and recorders that write the sound before anything else.
    size = int.from_bytes(head[:4], "big")
    return head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot") and (size in (0, 1) or size >= 8)


def _is_ts(head: bytes) -> bool:
    return len(head) > 4 * _TS_PACKET_BYTES and set(head[: 5 * _TS_PACKET_BYTES : _TS_PACKET_BYTES]) == {0x47}


def _is_w64(head: bytes) -> bool:
    return head.startswith(W64_RIFF) and head[24:40] == W64_WAVE


#: Every container that is taken. The tests exclude one another, so the order carries no meaning.
CONTAINERS = (
    Container("wav", "wav", _form((b"RIFF", b"RIFX", b"RF64", b"BW64"), (b"WAVE",)), ("WAV", "WAVEX")),
    Container("w64", "wav", _is_w64, ("WAV", "WAVEX")),  # handed on as a WAV
    Container("flac", "flac", _magic(b"fLaC"), ("FLAC",)),
    Container("mp3", "mp3", partial(starts_frames, "mp3"), ("MP3",)),
    Container("ogg", "ogg", _magic(b"OggS"), ("OGG",)),
    Container("mp4", "mov", _is_mp4),
    Container("aac", "aac", partial(starts_frames, "aac")),
    Container("aiff", "aiff", _form((b"FORM",), (b"AIFF", b"AIFC")), ("AIFF",)),
    Container("caf", "caf", _magic(b"caff\x00\x01"), ("CAF",)),
    Container("au", "au", _magic(b".snd\x00\x00"), ("AU",)),
    Container("ts", "mpegts", _is_ts),
    Container("webm", "matroska", _magic(b"\x1a\x45\xdf\xa3")),
)

BY_NAME = {container.name: container for container in CONTAINERS}

#: What a search through leading bytes stops at; MPEG frames, which have a mark of two bytes alone, must follow suit.
_LATER_START = re.compile(
    rb"(?P<flac>fLaC\x00\x00\x00\x22)|(?P<wav>RI(?:FF|FX)....WAVE|(?:RF|BW)64....WAVEds64)|(?P<aiff>FORM....AIF[FC])"
    rb"|(?P<ogg>OggS\x00\x02)|(?P<mpeg>" + START_MARK.pattern + rb")",
    re.S,
)


def detect_container(head: bytes) -> str | None:
    """Name the container that a file's first HEAD_BYTES announce, or None where it is none that is taken.

    ``head`` may be shorter when that is the whole file. A tag that reaches beyond it counts as an MP3's, its usual
    owner. Whether the rest of the file keeps the promise, only decoding can tell.
    """
    found = locate(lambda at, n_bytes: head[at : at + n_bytes])
    if found:
        return found[0].name
    return "mp3" if skip_tags(lambda at, n_bytes: head[at : at + n_bytes]) > 0 else None


def begins_as(head: bytes) -> str | None:
    """Name the container that a file begins with, None where tags or junk may stand before it or it is none."""
    return next((container.name for container in CONTAINERS if container.begins(head[:SNIFF_BYTES])), None)


def is_other_file(head: bytes) -> bool:
    """Whether a file begins as another well-known kind of file does, so that no audio is looked for behind that."""
    return head.startswith(_OTHER_FILES) and begins_as(head) is None or head[4:8] == b"ftyp" and not _is_mp4(head)


def locate(read_at: ReadAt) -> tuple[Container, int] | None:
    """The container of a file and where in it that begins: behind tags, and behind up to MAX_LEADING_BYTES of junk."""
    if is_other_file(read_at(0, SNIFF_BYTES)):
        return None
    start = skip_tags(read_at)
    name = begins_as(read_at(start, SNIFF_BYTES))
    if name:
        return BY_NAME[name], start
    return _search(read_at(start, HEAD_BYTES), start)


def _search(head: bytes, start: int) -> tuple[Container, int] | None:
    for found in _LATER_START.finditer(head, 0, MAX_LEADING_BYTES + SNIFF_BYTES):
        for name in _claimed(found, head):
            return BY_NAME[name], start + found.start()
    return None


def _claimed(found: re.Match[bytes], head: bytes) -> Iterator[str]:
    if found.lastgroup != "mpeg":
        yield str(found.lastgroup)
        return
    frames = memoryview(head)[found.start() :]  # not copied: junk may hold thousands of marks
    yield from (kind for kind in ("mp3", "aac") if starts_frames(kind, frames, n_frames=3))


def skip_tags(read_at: ReadAt, at: int = 0) -> int:
    """Where the ID3v2 and APEv2 tags end that begin at a place of a file; that place itself where there are none."""
    for _ in range(_MAX_TAGS):
        ends = [at + n_bytes for n_bytes in _tag_lengths(read_at(at, _APE_HEADER_BYTES))]
        if not ends:
            break
        if not any(read_at(end - 1, 1) for end in ends):
            return at + _ID3_HEADER_BYTES  # no tag is longer than its file: what follows it has to be searched for
        at = next((end for end in ends if _something_begins(read_at(end, SNIFF_BYTES))), ends[0])
    return at


def _something_begins(head: bytes) -> bool:
    return begins_as(head) is not None or bool(_tag_lengths(head[:_APE_HEADER_BYTES]))


def _tag_lengths(head: bytes) -> list[int]:
    """The lengths that a tag at the front may have: some writers leave ID3v2's as a plain integer."""
    if head[:8] == b"APETAGEX" and len(head) == _APE_HEADER_BYTES:
        return [_APE_HEADER_BYTES + int.from_bytes(head[12:16], "little")]
    if len(head) < _ID3_HEADER_BYTES or head[:3] != b"ID3" or 0xFF in head[3:5]:
        return []
    size, extra = head[6:10], _ID3_HEADER_BYTES + (_ID3_HEADER_BYTES if head[5] & _ID3_FOOTER_FLAG else 0)
    plain = int.from_bytes(size, "big")
    # Seven bits a byte, so that no size looks like a frame's start mark.
    synchsafe = [] if max(size) > 0x7F else [size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]]
    return [extra + n_bytes for n_bytes in dict.fromkeys([*synchsafe, plain]) if n_bytes < _MAX_ID3_BYTES]
