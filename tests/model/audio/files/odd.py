"""Files that are odd and play everywhere, made on the spot: each with the plain file of the same sound beside it.

`ODD_FILES` says what must come of each: the samples of the plain file, within a tolerance where the oddity takes or
adds some, and the codes of the warnings.
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial

import av
import numpy as np
import soundfile

from tests.model.audio.files.ogg import FIRST, LAST, Page, joined, packets, page_of, pages
from tests.model.tracks import Signal, encoder_frames, id3, music, track_file, two_tracks, wav

Build = Callable[[], bytes]
DURATION_S = 4.0


@dataclass(frozen=True)
class OddFile:
    """How to make an odd file and the plain one, how far lengths and samples may differ, and the warnings."""

    build: Build
    plain: Build
    warnings: tuple[str, ...] = ()
    differs_s: float = 0.0
    atol: float = 1e-4


@cache
def plain(kind: str, channels: int = 2) -> bytes:
    rate_hz = 48_000 if "opus" in kind else 44_100
    return track_file(kind, music(DURATION_S, rate_hz, channels), rate_hz)


def replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def noise(n_bytes: int) -> bytes:
    """Bytes with no start mark of MPEG frames among them."""
    return np.random.default_rng(n_bytes).bytes(n_bytes).replace(b"\xff", b"\x00")


# Tags and junk in front


def id3_plain_size(size: int) -> bytes:
    """A tag whose size is written as a plain integer."""
    return b"ID3\x03\x00\x00" + struct.pack(">I", size) + bytes(size)


def ape_tag(size: int = 300) -> bytes:
    """An APEv2 tag with its header and its footer."""
    ends = [struct.pack("<8sIIII8x", b"APETAGEX", 2000, size + 32, 1, flags) for flags in (0xA0000000, 0x80000000)]
    return ends[0] + bytes(size) + ends[1]


FRONTS: dict[str, bytes] = {
    "an ID3v2 tag": id3(300),
    "two ID3v2 tags": id3(300) + id3(1000),
    "an ID3v2 tag with a picture of 300 kB": id3(300_000),
    "an ID3v2 tag with a footer": b"ID3\x04\x00\x10" + bytes([0, 0, 2, 44]) + bytes(300) + b"3DI" + bytes(7),
    "an ID3v2 tag of a plain integer": id3_plain_size(20_000),
    "an ID3v2 tag whose size is too small": id3(300) + bytes(500),
    "an ID3v2 tag whose size is beyond the file": b"ID3\x03\x00\x00\x0f\x7f\x7f\x7f" + bytes(500),
    "an APEv2 tag": ape_tag(),
    "an APEv2 and an ID3v2 tag": ape_tag() + id3(50),
    "731 zeros": bytes(731),
    "64 KiB of zeros": bytes(64 * 1024),
    "5000 bytes of junk": noise(5000),
    "the head of an HTTP answer": b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n",
    "a line end": b"\r\n",
}
FRONTED = ["mp3", "adts", "flac-16", "wav-16", "aiff-16"]


# WAV, AIFF, AU


def _wav(sound: Signal | None = None) -> bytes:
    signal = music(DURATION_S, channels=1) if sound is None else sound
    return wav((signal * 32_767).astype("<i2"))


def _sizes(data: bytes, *, riff: int | None = None, chunk: int | None = None) -> bytes:
    data = data if riff is None else replaced(data, 4, struct.pack("<I", riff))
    return data if chunk is None else replaced(data, 40, struct.pack("<I", chunk))


def _two_data_chunks() -> bytes:
    data = _wav()
    body, half = data[44:], len(data[44:]) // 2
    chunks = b"".join(struct.pack("<4sI", b"data", len(part)) + part for part in (body[:half], body[half:]))
    return data[:36] + chunks


def _wav_of_bits(valid_bits: int, sample_bytes: int, *, extensible: bool) -> bytes:
    """Samples of so many bits at the top of so many bytes."""
    signal = music(DURATION_S, channels=2)
    steps = np.round(signal * 2 ** (valid_bits - 1)).astype("<i4") << (32 - valid_bits)
    raw: bytes = steps.reshape(-1, 1).view(np.uint8)[:, 4 - sample_bytes :].tobytes()
    block = 2 * sample_bytes
    guid = struct.pack("<HI", valid_bits, 3) + b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    bits = 8 * sample_bytes if extensible else valid_bits
    fmt = struct.pack("<HHIIHH", 0xFFFE if extensible else 1, 2, 44_100, 44_100 * block, block, bits)
    fmt += struct.pack("<H", 22) + guid if extensible else b""
    chunks = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + struct.pack("<4sI", b"data", len(raw)) + raw
    return struct.pack("<4sI4s", b"RIFF", len(chunks) + 4, b"WAVE") + chunks


def _aiff_chunks(data: bytes) -> tuple[bytes, bytes]:
    """COMM and SSND of the tests' own AIFF, headers included."""
    comm, ssnd = data.index(b"COMM"), data.index(b"SSND")
    return data[comm : comm + 26], data[ssnd : ssnd + 8 + int.from_bytes(data[ssnd + 4 : ssnd + 8], "big")]


def _aiff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"AIFF" + b"".join(chunks)
    return struct.pack(">4sI", b"FORM", len(body) if size is None else size) + body


def _aiff_with_count(n_samples: int) -> bytes:
    data = plain("aiff-16")
    return replaced(data, data.index(b"COMM") + 10, struct.pack(">I", n_samples))


_CUSTOM_LAYOUT = (
    b"CHAN" + struct.pack(">I", 12 + 40) + struct.pack(">III", 0, 0, 2) + struct.pack(">IIfff", 5, 0, 0, 0, 0) * 2
)

WAVS: dict[str, OddFile] = {
    "a RIFF size twice the file's": OddFile(
        lambda: _sizes(_wav(), riff=2 * len(_wav())), _wav, ("declared_length_differs",)
    ),
    "a RIFF size of half the file": OddFile(
        lambda: _sizes(_wav(), riff=len(_wav()) // 2), _wav, ("declared_length_differs",)
    ),
    "both sizes 0": OddFile(lambda: _sizes(_wav(), riff=0, chunk=0), _wav),
    "both sizes unknown": OddFile(lambda: _sizes(_wav(), riff=2**32 - 1, chunk=2**32 - 1), _wav),
    "a data size of half the data": OddFile(
        lambda: _sizes(_wav(), chunk=len(_wav()[44:]) // 2), _wav, ("declared_length_differs",)
    ),
    "a data size of 0 under a right RIFF size": OddFile(lambda: _sizes(_wav(), chunk=0), _wav),
    "two data chunks": OddFile(_two_data_chunks, _wav, ("joined_streams", "declared_length_differs")),
    "a tag behind the data": OddFile(lambda: _wav() + id3(200), _wav),
    "an ID3v1 tag behind the data": OddFile(lambda: _wav() + b"TAG" + bytes(125), _wav),
    "2000 bytes of junk behind the data": OddFile(lambda: _wav() + noise(2000), _wav, ("trailing_data_ignored",)),
    "another WAV behind it": OddFile(lambda: _wav() + _wav(), _wav, ("trailing_data_ignored",)),
    "a chunk of odd length that is not padded": OddFile(
        lambda: _wav()[:36] + b"LIST\x05\x00\x00\x00INFO!" + _wav()[36:],
        _wav,
        ("declared_length_differs",),  # nor is it counted
    ),
    "24 valid bits in 32": OddFile(lambda: _wav_of_bits(24, 4, extensible=True), lambda: plain("wav-24")),
    "24 bits in blocks of 8 bytes": OddFile(lambda: _wav_of_bits(24, 4, extensible=False), lambda: plain("wav-24")),
    "20 valid bits in 24": OddFile(lambda: _wav_of_bits(20, 3, extensible=True), lambda: plain("wav-24")),
    "16 valid bits in 24": OddFile(lambda: _wav_of_bits(16, 3, extensible=True), lambda: plain("wav-16")),
    "16 valid bits in 32": OddFile(lambda: _wav_of_bits(16, 4, extensible=True), lambda: plain("wav-16")),
    "12 valid bits in 16": OddFile(lambda: _wav_of_bits(12, 2, extensible=True), lambda: plain("wav-16"), atol=2**-11),
}
AIFFS: dict[str, OddFile] = {
    "twice the samples declared": OddFile(
        lambda: _aiff_with_count(2 * 176_400), lambda: plain("aiff-16"), ("declared_length_differs",)
    ),
    "half the samples declared": OddFile(
        lambda: _aiff_with_count(88_200), lambda: plain("aiff-16"), ("declared_length_differs",)
    ),
    "no samples declared": OddFile(lambda: _aiff_with_count(0), lambda: plain("aiff-16")),
    "the sound before its description": OddFile(
        lambda: _aiff(*reversed(_aiff_chunks(plain("aiff-16")))), lambda: plain("aiff-16")
    ),
    "a FORM size of 4 GiB": OddFile(lambda: replaced(plain("aiff-16"), 4, b"\xff" * 4), lambda: plain("aiff-16")),
    "a FORM size twice the file's": OddFile(
        lambda: replaced(plain("aiff-16"), 4, struct.pack(">I", 2 * len(plain("aiff-16")))),
        lambda: plain("aiff-16"),
        ("declared_length_differs",),
    ),
    "a custom channel layout": OddFile(
        lambda: _aiff(_aiff_chunks(plain("aiff-16"))[0], _CUSTOM_LAYOUT, _aiff_chunks(plain("aiff-16"))[1]),
        lambda: plain("aiff-16"),
    ),
    "an ID3 chunk": OddFile(
        lambda: _aiff(*_aiff_chunks(plain("aiff-16")), b"ID3 " + struct.pack(">I", 30) + id3(20)),
        lambda: plain("aiff-16"),
    ),
}
OTHERS: dict[str, OddFile] = {
    "AU of unknown size": OddFile(lambda: replaced(plain("au-16"), 8, b"\xff" * 4), lambda: plain("au-16")),
    "AU with a size of half the data": OddFile(
        lambda: replaced(plain("au-16"), 8, struct.pack(">I", 4 * 88_200)),
        lambda: plain("au-16"),
        ("declared_length_differs",),
    ),
    "CAF of unknown size": OddFile(
        lambda: replaced(plain("caf-16"), plain("caf-16").index(b"data") + 4, b"\xff" * 8), lambda: plain("caf-16")
    ),
    "Wave64": OddFile(lambda: plain("w64-16"), lambda: plain("wav-16")),
    "RF64": OddFile(lambda: plain("rf64-16"), lambda: plain("wav-16")),
    "CAF of ALAC": OddFile(lambda: plain("caf-alac"), lambda: plain("wav-16")),
    "CAF of AAC": OddFile(lambda: _caf_of_aac(), lambda: plain("adts")),
    "CAF of AAC, its cookie short": OddFile(lambda: _caf_of_aac(apple=False), lambda: plain("adts")),
}


def _caf_of_aac(*, apple: bool = True) -> bytes:
    """CAF of the frames of an ADTS, which no library at hand writes."""
    frames = [frame[7:] for frame in adts_frames(plain("adts"))]
    config = b"\x12\x10"  # AAC-LC, 44.1 kHz, stereo
    decoder = (
        b"\x04" + bytes([13 + 2 + len(config)]) + b"\x40\x15" + bytes(11) + b"\x05" + bytes([len(config)]) + config
    )
    kuki = b"\x03" + (b"\x80\x80\x80" if apple else b"") + bytes([3 + len(decoder)]) + b"\x00\x00\x00" + decoder
    lengths = b"".join(_variable(len(frame)) for frame in frames)
    pakt = struct.pack(">QQII", len(frames), 1024 * len(frames), 0, 0) + lengths
    chunks = [
        (b"desc", struct.pack(">d4s5I", 44_100.0, b"aac ", 0, 0, 1024, 2, 0)), (b"kuki", kuki), (b"pakt", pakt),
        (b"data", bytes(4) + b"".join(frames)),
    ]  # fmt: skip
    return b"caff\x00\x01\x00\x00" + b"".join(struct.pack(">4sQ", name, len(body)) + body for name, body in chunks)


def _variable(number: int) -> bytes:
    return bytes([number >> 7 | 0x80, number & 0x7F]) if number > 0x7F else bytes([number])


# FLAC, MP3, ADTS


def adts_frames(data: bytes) -> list[bytes]:
    found, at = list[bytes](), 0
    while at < len(data):
        n_bytes = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        found, at = [*found, data[at : at + n_bytes]], at + n_bytes
    return found


def mp3_frames(data: bytes) -> list[bytes]:
    """The frames of an MP3 of MPEG 1 at 44.1 kHz without tags."""
    kbits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    found, at = list[bytes](), 0
    while at < len(data):
        n_bytes = 144_000 * kbits[data[at + 2] >> 4] // 44_100 + (data[at + 2] >> 1 & 1)
        found, at = [*found, data[at : at + n_bytes]], at + n_bytes
    return found


def _between(frames: list[bytes], junk: bytes, every: int) -> bytes:
    return b"".join(frame + (junk if index % every == every - 1 else b"") for index, frame in enumerate(frames))


def _flac_frame_at(data: bytes, index: int) -> int:
    at = -1
    for _ in range(index + 1):
        at = data.index(b"\xff\xf8", at + 1)
    return at


def _flac_with_a_broken_frame() -> bytes:
    data = plain("flac-16")
    at = _flac_frame_at(data, 20) + 500
    return replaced(data, at, bytes(byte ^ 0x55 for byte in data[at : at + 40]))


FRAMED: dict[str, OddFile] = {
    "MP3 with ID3v2 tags between its frames": OddFile(
        lambda: _between(mp3_frames(plain("mp3")), id3(63), 40), lambda: plain("mp3")
    ),
    "MP3 with junk between its frames": OddFile(
        lambda: _between(mp3_frames(plain("mp3")), noise(100), 60), lambda: plain("mp3"), ("packets_skipped",)
    ),
    "MP3 trimmed, its first frame as it was": OddFile(
        lambda: b"".join(mp3_frames(plain("mp3"))[:100]), lambda: plain("mp3"), ("declared_length_differs",), 1.5
    ),
    "MP3 of two joined": OddFile(
        lambda: plain("mp3") * 2,
        lambda: track_file("mp3", np.tile(music(DURATION_S), (2, 1))),
        ("joined_streams",),
        0.1,
    ),
    "MP3 of two joined, tagged": OddFile(
        lambda: id3(90) + plain("mp3") + id3(90) + plain("mp3"),
        lambda: track_file("mp3", np.tile(music(DURATION_S), (2, 1))),
        ("joined_streams",),
        0.1,
    ),
    "MP3 with an APEv2 and an ID3v1 tag behind it": OddFile(
        lambda: plain("mp3") + ape_tag() + b"TAG" + bytes(125), lambda: plain("mp3")
    ),
    "MP3 with zeros behind it": OddFile(
        lambda: plain("mp3") + bytes(3000), lambda: plain("mp3"), ("trailing_data_ignored",)
    ),
    "MP3 without its first frame, cut in the last": OddFile(
        lambda: b"".join(mp3_frames(plain("mp3"))[1:])[:-100], lambda: plain("mp3"), ("trailing_data_ignored",), 0.1
    ),
    "MP3 that starts within a frame": OddFile(
        lambda: b"".join(mp3_frames(plain("mp3"))[40:])[200:], lambda: plain("mp3"), (), 1.2
    ),
    "ADTS with ID3v2 tags between its frames": OddFile(
        lambda: _between(adts_frames(plain("adts")), id3(63), 40), lambda: plain("adts")
    ),
    "ADTS with junk between its frames": OddFile(
        lambda: _between(adts_frames(plain("adts")), noise(100), 60), lambda: plain("adts"), ("packets_skipped",)
    ),
    "ADTS cut in its last frame": OddFile(
        lambda: plain("adts")[:-50], lambda: plain("adts"), ("trailing_data_ignored",), 0.06
    ),
    "FLAC of two joined": OddFile(
        lambda: plain("flac-16") * 2,
        lambda: track_file("flac-16", np.tile(music(DURATION_S), (2, 1))),
        ("joined_streams",),
    ),
    "FLAC with an ID3v1 tag behind it": OddFile(
        lambda: plain("flac-16") + b"TAG" + bytes(125), lambda: plain("flac-16")
    ),
    "FLAC that ends on a frame before its declared length": OddFile(
        lambda: plain("flac-16")[: _flac_frame_at(plain("flac-16"), 30)],
        lambda: plain("flac-16"),
        ("declared_length_differs",),
        2.0,
    ),
    "FLAC with one broken frame": OddFile(
        _flac_with_a_broken_frame, lambda: plain("flac-16"), ("declared_length_differs", "packets_skipped"), 0.2
    ),
}


# Ogg


def _ends(kind: str, *, last: list[Page]) -> bytes:
    """An Ogg whose last page lacks its flag and is followed by these pages."""
    parts = pages(plain(kind))
    end = parts[-1]
    return joined([*parts[:-1], replace(end, flags=end.flags & ~LAST), *last])


def _ends_on(kind: str, lacing: bytes) -> bytes:
    """An Ogg whose end flag stands on a page of no packets, or of empty ones."""
    end = pages(plain(kind))[-1]
    return _ends(kind, last=[Page(LAST, end.granule, end.serial, 0, lacing, b"")])


def _headers_twice() -> bytes:
    """The three headers of a Vorbis two times, then a granule position below 0."""
    parts = pages(plain("ogg-vorbis"))
    headers = [page for page in parts if page.granule == 0]
    sound = [page for page in parts if page.granule != 0]
    ident, comment, setup = packets(headers)[:3]
    serial = parts[0].serial
    twice = [
        page_of([ident], serial=serial, flags=FIRST),
        page_of([comment, setup], serial=serial),
        page_of([ident], serial=serial),
        page_of([comment, setup], serial=serial),
    ]
    return joined([*twice, *sound])


def _empty_packet_within(kind: str) -> bytes:
    parts = pages(plain(kind))
    middle = len(parts) // 2
    page = parts[middle]
    return joined([*parts[:middle], page, Page(0, page.granule, page.serial, 0, b"\x00", b""), *parts[middle + 1 :]])


def _two_streams() -> bytes:
    """Two Vorbis streams at once, page by page."""
    first, second = pages(plain("ogg-vorbis")), [replace(page, serial=7) for page in pages(plain("ogg-vorbis"))]
    mixed = [first[0], second[0], *(page for pair in zip(first[1:], second[1:], strict=True) for page in pair)]
    counts: dict[int, int] = {}
    numbered = []
    for page in mixed:
        numbered.append(bytes(replace(page, number=counts.get(page.serial, 0))))
        counts[page.serial] = counts.get(page.serial, 0) + 1
    return b"".join(numbered)


def _lost_page() -> bytes:
    data = [bytes(page) for page in pages(long_vorbis())]
    return b"".join(data[:20] + data[21:])


@cache
def long_vorbis() -> bytes:
    return track_file("ogg-vorbis", music(20.0))


def _late_granules(kind: str, late: int) -> bytes:
    return joined(
        replace(page, granule=page.granule + late) if page.granule > 0 else page for page in pages(plain(kind))
    )


OGGS: dict[str, OddFile] = {
    "Opus without the end flag": OddFile(
        lambda: _ends("ogg-opus", last=[]), lambda: plain("ogg-opus"), ("end_mark_missing",), 0.03
    ),
    "Vorbis without the end flag": OddFile(
        lambda: _ends("ogg-vorbis", last=[]), lambda: plain("ogg-vorbis"), ("end_mark_missing",), 0.05
    ),
    "FLAC in Ogg without the end flag": OddFile(
        lambda: _ends("ogg-flac", last=[]), lambda: plain("ogg-flac"), ("end_mark_missing",)
    ),
    **{
        f"{kind} with the end flag on {what}": OddFile(partial(_ends_on, kind, lacing), partial(plain, kind))
        for kind in ("ogg-opus", "ogg-vorbis", "ogg-flac")
        for what, lacing in (("an empty page", b""), ("an empty packet", b"\x00"))
    },
    "Vorbis with an empty packet": OddFile(lambda: _empty_packet_within("ogg-vorbis"), lambda: plain("ogg-vorbis")),
    "Opus with an empty packet": OddFile(lambda: _empty_packet_within("ogg-opus"), lambda: plain("ogg-opus")),
    "Vorbis whose headers come twice": OddFile(_headers_twice, lambda: plain("ogg-vorbis")),
    "Vorbis behind an ID3v2 tag": OddFile(lambda: id3(500) + plain("ogg-vorbis"), lambda: plain("ogg-vorbis")),
    "Vorbis with junk behind it": OddFile(
        lambda: plain("ogg-vorbis") + noise(500), lambda: plain("ogg-vorbis"), ("trailing_data_ignored",)
    ),
    "Vorbis, two in a chain": OddFile(
        lambda: plain("ogg-vorbis") * 2,
        lambda: track_file("ogg-vorbis", np.tile(music(DURATION_S), (2, 1))),
        ("joined_streams",),
        0.1,
    ),
    "two Vorbis streams at once": OddFile(_two_streams, lambda: plain("ogg-vorbis"), ("other_streams_ignored",)),
    "Vorbis that lost a page": OddFile(_lost_page, long_vorbis, ("timestamp_gaps", "packets_skipped"), 1.0),
    "Opus that starts after an hour": OddFile(
        lambda: _late_granules("ogg-opus", 48_000 * 3600), lambda: plain("ogg-opus"), ("timestamp_gaps",), 0.03
    ),
}


# MP4, Matroska, MPEG-TS


def remuxed(kind: str, muxer: str, shift_s: Callable[[float], float]) -> bytes:
    """The packets of a plain file in a container again, each at a time of its own."""
    file = io.BytesIO()
    with av.open(io.BytesIO(plain(kind))) as source, av.open(file, "w", format=muxer) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.dts is None:
                continue
            base = packet.time_base or Fraction(1, 1000)
            shift = round(shift_s(float(packet.pts * base)) / base)
            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
            output.mux(packet)
    return file.getvalue()


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The outer boxes of an MP4, by name."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size


def _quicktime(first: bytes) -> bytes:
    """A MOV from before `ftyp`: boxes of the same length in its stead, so that offsets stay right."""
    data = plain("m4a-aac")
    n_bytes = int.from_bytes(data[:4], "big")
    rest = struct.pack(">I4s", n_bytes - 8, b"free") + bytes(n_bytes - 16)
    return struct.pack(">I4s", 8, first) + rest + data[n_bytes:]


def _moved(moov: bytes, shift: int) -> bytes:
    """`moov` for sound that stands elsewhere."""
    data, at = bytearray(moov), moov.index(b"stco") + 8
    for index in range(int.from_bytes(data[at : at + 4], "big")):
        place = at + 4 + 4 * index
        data[place : place + 4] = struct.pack(">I", int.from_bytes(data[place : place + 4], "big") + shift)
    return bytes(data)


def _mdat_first() -> bytes:
    """`mdat` at the very front."""
    data, found = plain("m4a-aac"), dict(boxes(plain("m4a-aac")))
    return found[b"mdat"] + _moved(found[b"moov"], 4 - data.index(b"mdat"))


def endless_mdat() -> bytes:
    """`mdat` of size 0, which goes on to the end of the file, behind `moov`."""
    found = dict(boxes(plain("m4a-aac")))
    ahead = found[b"ftyp"] + found[b"moov"]
    shift = len(ahead) + 4 - plain("m4a-aac").index(b"mdat")
    return found[b"ftyp"] + _moved(found[b"moov"], shift) + bytes(4) + found[b"mdat"][4:]


def _with_declared(kind: str, mark: bytes, offset: int, new: bytes) -> bytes:
    data = plain(kind)
    return replaced(data, data.index(mark) + offset, new)


def _tracks_in(codecs: tuple[str, ...], muxer: str, default: int = 0) -> bytes:
    """A file of one sound in several codecs."""
    file, signal = io.BytesIO(), music(1.5, 48_000)
    with av.open(file, "w", format=muxer) as output:
        streams = [output.add_stream(codec, rate=48_000, layout="stereo") for codec in codecs]
        for index, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if index == default else av.stream.Disposition(0)
        for stream in streams:
            for frame in encoder_frames(stream, signal, "stereo", 48_000):
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux([packet for packet in stream.encode(None) if packet.size])
    return file.getvalue()


def _sound(container: str, subtype: str, endian: str) -> bytes:
    """A file as libsndfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, music(DURATION_S), 44_100, format=container, subtype=subtype, endian=endian)
    return file.getvalue()


def _gap(at_s: float, gap_s: float) -> Callable[[float], float]:
    return lambda time_s: gap_s if time_s > at_s else 0.0


TIMED: dict[str, OddFile] = {
    **{
        f"{kind} with a gap of {gap_s} s": OddFile(
            partial(remuxed, kind, muxer, _gap(2.0, gap_s)),
            partial(plain, kind),
            ("timestamp_gaps",),
            0.06,
        )
        for kind, muxer in (("webm-opus", "webm"), ("m4a-aac", "ipod"), ("mka-aac", "matroska"), ("ts-aac", "mpegts"))
        for gap_s in (0.2, 2.0)
    },
    **{
        f"{kind} that starts after 5 s": OddFile(
            partial(remuxed, kind, muxer, _gap(-1.0, 5.0)),
            partial(plain, kind),
            ("timestamp_gaps",),
            0.06,
        )
        for kind, muxer in (("webm-opus", "webm"), ("mka-aac", "matroska"))
    },
    "MP4 that declares twice its length": OddFile(
        lambda: _with_declared("m4a-alac", b"mdhd", 20, struct.pack(">I", 2 * 176_400)),
        lambda: plain("m4a-alac"),  # the table of samples says otherwise, and players go by that
    ),
    "WebM that declares an hour": OddFile(
        lambda: _with_declared("webm-opus", b"\x44\x89\x88", 3, struct.pack(">d", 3_600_000.0)),
        lambda: plain("webm-opus"),
        ("declared_length_differs",),
    ),
    "MOV that starts with wide": OddFile(lambda: _quicktime(b"wide"), lambda: plain("m4a-aac")),
    "MOV that starts with skip": OddFile(lambda: _quicktime(b"skip"), lambda: plain("m4a-aac")),
    "MOV that starts with mdat": OddFile(_mdat_first, lambda: plain("m4a-aac")),
    "MP4 whose mdat has no size": OddFile(endless_mdat, lambda: plain("m4a-aac")),
    "MP4 with junk behind it": OddFile(
        lambda: plain("m4a-aac") + noise(999), lambda: plain("m4a-aac"), ("trailing_data_ignored",)
    ),
    "MP4 of two sound tracks": OddFile(two_tracks, lambda: track_file("m4a-aac"), ("other_streams_ignored",)),
    "MP4 of a track that is not taken and one that is": OddFile(
        partial(_tracks_in, ("ac3", "aac"), "mp4"), partial(_tracks_in, ("aac",), "mp4"), ("other_streams_ignored",)
    ),
    "Matroska whose second sound track is the default": OddFile(
        partial(_tracks_in, ("aac", "flac"), "matroska", default=1),
        partial(_tracks_in, ("flac",), "matroska"),
        ("other_streams_ignored",),
    ),
    "Matroska of two sound tracks": OddFile(
        lambda: two_tracks("mka-aac"), lambda: track_file("mka-aac"), ("other_streams_ignored",)
    ),
}


def _behind(front: bytes, kind: str) -> bytes:
    return front + plain(kind)


#: libsndfile's own limits.
_UNWRITTEN = {
    ("AIFF", "LITTLE", "FLOAT"), ("AIFF", "LITTLE", "DOUBLE"), ("AIFF", "BIG", "FLOAT"), ("AIFF", "BIG", "DOUBLE"),
}  # fmt: skip
ODD_FILES: dict[str, OddFile] = {
    **{
        f"{kind} behind {name}": OddFile(partial(_behind, front, kind), partial(plain, kind))
        for name, front in FRONTS.items()
        for kind in FRONTED
    },
    **{f"WAV with {name}": odd for name, odd in WAVS.items()},
    **{f"AIFF with {name}": odd for name, odd in AIFFS.items()},
    **OTHERS,
    **{
        f"{container} of {subtype}, {endian.lower()} end first": OddFile(
            partial(_sound, container, subtype, endian), partial(plain, "wav-24"), atol=atol
        )
        for container, endian in (("WAV", "BIG"), ("AIFF", "LITTLE"), ("AIFF", "BIG"), ("CAF", "LITTLE"), ("AU", "BIG"))
        for subtype, atol in (("PCM_16", 1e-4), ("PCM_24", 1e-4), ("PCM_32", 1e-4), ("FLOAT", 1e-4), ("DOUBLE", 1e-4))
        if (container, endian, subtype) not in _UNWRITTEN
    },
    **{
        f"AIFF of {subtype}": OddFile(partial(_sound, "AIFF", subtype, "FILE"), partial(plain, f"wav-{kind}"))
        for subtype, kind in (("ALAW", "alaw"), ("ULAW", "ulaw"))
    },
    **FRAMED,
    **OGGS,
    **TIMED,
}
