"""The catalogue of hostile files: headers that lie, bombs, what is not audio, and scripts that name other files.

Each is made on the spot. `LIES` and `BOMBS` say what must come of them: a reason in `model.audio.decode_errors`, or
DECODES.
"""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from tests.model import tracks
from tests.model.audio.files.odd import endless_mdat
from tests.model.audio.files.ogg import sealed
from tests.model.tracks import id3, music, ramp, track_file, two_tracks, video, wav, with_flac_total

Build = Callable[[], bytes]

DECODES = "decodes"
#: What a script is put behind, to be taken for audio.
MAGIC = {
    "MP3": id3(0),
    "WAV": b"RIFF\xff\xff\xff\xffWAVE",
    "Ogg": b"OggS",
    "FLAC": b"fLaC",
    "MP4": b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00",
    "Matroska": b"\x1a\x45\xdf\xa3",
}
DISGUISES = {"nothing": b"", **MAGIC}


def patched(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """The file with other bytes so far behind the start of a mark."""
    at = data.index(mark) + offset
    return data[:at] + new + data[at + len(new) :]


@cache
def file(kind: str) -> bytes:
    return track_file(kind)


def _ogg_ending(kind: str, granule: int) -> bytes:
    """An Ogg whose last page says that the sound ends there."""
    data = file(kind)
    last = data.rindex(b"OggS")
    return data[:last] + sealed(patched(data[last:], b"OggS", 6, struct.pack("<q", granule)))


def _wav_chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return struct.pack("<4sI", name, len(body) if size is None else size) + body


def _wav_with(chunk: bytes) -> bytes:
    """A good WAV with a chunk before its data."""
    whole = wav(ramp(66_150))
    body = whole[8:36] + chunk + whole[36:]
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def _rf64(n_bytes: int) -> bytes:
    """An RF64 that declares so many bytes of data in 64 bits."""
    return patched(file("rf64-16"), b"ds64", 16, struct.pack("<Q", n_bytes))


def _adpcm(block_align: int) -> bytes:
    header = struct.pack("<HHIIHHHH", 0x11, 50_000, 44_100, 2**32 - 1, block_align, 4, 2, 50_000)
    body = b"WAVE" + _wav_chunk(b"fmt ", header) + _wav_chunk(b"data", bytes(4096))
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def _noise_after(magic: bytes) -> bytes:
    return magic + np.random.default_rng(0).bytes(50_000)


#: Headers that say what is not so, or what nobody can want.
LIES: dict[str, tuple[Build, str]] = {
    # WAV
    "WAV of no samples": (lambda: wav(ramp(0)), "too_short"),
    "WAV with an odd data size": (lambda: wav(ramp(66_150), data_bytes=132_299), DECODES),
    "WAV with a data size one too large": (lambda: wav(ramp(66_150), data_bytes=132_301), DECODES),
    "WAV that declares more than it has": (
        lambda: wav(ramp(66_150), data_bytes=1 << 30, riff_bytes=1 << 30),
        "truncated",
    ),
    "WAV whose data is said to be twice as long": (lambda: wav(ramp(66_150), data_bytes=264_600), "truncated"),
    "WAV whose sizes are both those of its first half": (
        lambda: wav(ramp(66_150), data_bytes=66_150, riff_bytes=66_186),
        "unclear_length",
    ),
    "WAV of two data chunks and two formats": (
        lambda: wav(ramp(66_150)) + wav(ramp(1), 8_000)[12:36] + _wav_chunk(b"data", ramp(66_150).tobytes()),
        "changes",
    ),
    "WAV of 0 Hz": (lambda: wav(ramp(66_150), 0), "broken"),
    "WAV of 1 Hz, a day long": (lambda: wav(ramp(86_400), 1), "sample_rate"),
    "WAV of 7 Hz": (lambda: wav(ramp(66_150), 7), "sample_rate"),
    "WAV of 2^32-1 Hz": (lambda: wav(ramp(66_150), 2**32 - 1), "broken"),
    "WAV of 0 channels": (lambda: wav(ramp(66_150), channels=0), "channels"),
    "WAV of 3 channels": (lambda: wav(ramp(198_450), channels=3), DECODES),
    "WAV of 24 channels": (lambda: wav(ramp(1_584_000), channels=24), DECODES),
    "WAV of 25 channels": (lambda: wav(ramp(1_650_000), channels=25), "channels"),
    "WAV of 1024 channels": (lambda: wav(ramp(66_150), channels=1024), "channels"),
    "WAV of 65535 channels": (lambda: wav(ramp(66_150), channels=65_535), "channels"),
    "WAV with block align 0": (lambda: wav(ramp(66_150), block_align=0), DECODES),
    "WAV of 0 bits": (lambda: wav(ramp(66_150), bits=0), "codec"),
    "WAV of 7 bits": (lambda: wav(ramp(66_150), bits=7), DECODES),
    "WAV of 64 bits": (lambda: wav(ramp(66_150), bits=64), "codec"),
    "WAV of an unknown codec": (lambda: wav(ramp(66_150), tag=0x7777), "codec"),
    "WAV with NaN": (lambda: wav(np.append(music(), np.nan).astype("f4")), "not_finite"),
    "WAV with -infinity": (lambda: wav(np.append(music(), -np.inf).astype("f4")), "not_finite"),
    "WAV with 3e38": (lambda: wav(np.append(music(), 3e38).astype("f4")), "not_finite"),
    "WAV with 1e300": (lambda: wav(np.append(music(), 1e300).astype("f8")), "not_finite"),
    "WAV with two data chunks": (lambda: wav(ramp(66_150)) + _wav_chunk(b"data", ramp(66_150).tobytes()), DECODES),
    "WAV with 50,000 LIST chunks": (lambda: _wav_with(_wav_chunk(b"LIST", b"INFO") * 50_000), DECODES),
    "WAV with a LIST of 4 GiB": (lambda: _wav_with(_wav_chunk(b"LIST", b"INFO", 2**32 - 2)), "broken"),
    "WAV with two fmt chunks": (lambda: _wav_with(wav(ramp(1), 8_000)[12:36]), DECODES),
    "RF64 that declares 0 bytes": (lambda: _rf64(0), DECODES),
    "RF64 that declares 2^63 bytes": (lambda: _rf64(2**63 - 1), DECODES),
    "ADPCM of 50000 channels and 50000 samples a block": (lambda: _adpcm(50_000), "codec"),
    # FLAC
    "FLAC that declares 2^36-1 samples": (lambda: with_flac_total(file("flac-16"), 2**36 - 1), DECODES),
    "FLAC that declares 0 samples": (lambda: with_flac_total(file("flac-16"), 0), DECODES),
    "FLAC of 655,350 Hz, though its frames know better": (
        lambda: patched(file("flac-16"), b"fLaC", 18, b"\x9f\xff\x62"),
        DECODES,
    ),
    "FLAC with a picture of 16 MB": (lambda: b"fLaC\x06\xff\xff\xff" + file("flac-16")[4:], "broken"),
    # Ogg
    "Ogg, two songs in a chain": (lambda: file("ogg-vorbis") * 2, DECODES),
    "Ogg that ends before it begins": (lambda: _ogg_ending("ogg-vorbis", -2), DECODES),
    "Ogg that ends in 6 million years": (lambda: _ogg_ending("ogg-opus", 2**63 - 1), "broken"),
    # MP3
    "MP3 that declares 2^32-1 frames": (lambda: patched(file("mp3"), b"Xing", 8, b"\xff" * 4), DECODES),
    "MP3 that declares 2^32-1 frames and is cut in two": (
        lambda: patched(file("mp3"), b"Xing", 8, b"\xff" * 4)[:-50],
        "truncated",
    ),
    "MP3 that declares 0 frames": (lambda: patched(file("mp3"), b"Xing", 8, bytes(4)), DECODES),
    "MP3 behind a tag of 256 MB": (lambda: b"ID3\x03\x00\x00\x7f\x7f\x7f\x7f" + file("mp3"), DECODES),
    "MP3 before an APE tag of 4 GiB": (lambda: file("mp3") + b"APETAGEX" + b"\xff" * 24, DECODES),
    "ID3 tag and nothing": (lambda: id3(1000), "container"),
    # MP4
    "MP4 that declares 2^32-1 ticks": (lambda: patched(file("m4a-aac"), b"mdhd", 20, b"\xff" * 4), DECODES),
    "MP4 of 0 ticks a second": (lambda: patched(file("m4a-aac"), b"mdhd", 16, bytes(4)), "too_short"),
    "MP4 of 2^32-1 samples": (lambda: patched(file("m4a-aac"), b"stsz", 12, b"\xff" * 4), "broken"),
    "MP4 of 2^32-1 chunks": (lambda: patched(file("m4a-aac"), b"stco", 8, b"\xff" * 4), DECODES),
    "MP4 whose samples last for ever": (lambda: patched(file("m4a-aac"), b"stts", 12, b"\x7f" * 8), "too_short"),
    "MP4 whose edit list skips it all": (lambda: patched(file("m4a-aac"), b"elst", 16, b"\x7f" * 4), "broken"),
    "MP4 with a box of 2^64-1 bytes": (lambda: file("m4a-aac") + b"\x00\x00\x00\x01free" + b"\xff" * 8, DECODES),
    "MP4 without its moov": (lambda: file("m4a-aac")[: file("m4a-aac").index(b"moov") - 4], "broken"),
    "MP4 whose table of samples points behind its end": (lambda: endless_mdat()[:-9000], "truncated"),
    "MP4 of two sound tracks": (two_tracks, DECODES),
    "MP4 of a video alone": (video, "no_stream"),
    "MP4 with AC-3": (lambda: track_file("mp4-ac3", rate_hz=48_000), "codec"),
    # The others
    "AIFF of 0 channels": (lambda: patched(file("aiff-16"), b"COMM", 8, bytes(2)), "broken"),
    "AIFF of an absurd rate": (lambda: patched(file("aiff-16"), b"COMM", 16, b"\x7f" * 10), "sample_rate"),
    "AIFF that declares 2^32-1 samples": (lambda: patched(file("aiff-16"), b"COMM", 10, b"\xff" * 4), DECODES),
    "AIFF with 4 GiB of sound": (lambda: patched(file("aiff-16"), b"SSND", 4, b"\xff" * 4), DECODES),
    "Matroska that lasts NaN seconds": (lambda: patched(file("mka-pcm"), b"\x44\x89\x88", 3, b"\x7f" * 8), DECODES),
    "Matroska of an endless segment": (lambda: patched(file("mka-pcm"), b"\x18\x53\x80\x67", 4, b"\xff" * 8), DECODES),
    "ADTS, then another rate": (lambda: file("adts") + track_file("adts", rate_hz=48_000), "changes"),
    "ADTS, then another number of channels": (lambda: file("adts") + track_file("adts", music(channels=1)), "changes"),
    "ADTS whose frames have no end": (lambda: patched(file("adts"), b"\xff\xf1", 3, b"\xff\xff\xff"), "too_short"),
    **{
        f"noise behind the first bytes of {name}": (
            partial(_noise_after, magic),
            "container" if name == "MP3" else "broken",
        )
        for name, magic in MAGIC.items()
    },
}


def _silent_mp3(duration_s: float) -> bytes:
    """Silence at 8 kHz and 8 kbit/s: a frame of zeros lasts 72 ms and takes 72 bytes."""
    return (b"\xff\xe3\x18\xc0" + bytes(68)) * int(duration_s / 0.072)


def _silent_opus(duration_s: float) -> bytes:
    """Silence of 3 bytes every 20 ms, in pages of 255 packets."""
    head = b"OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00"
    tags = b"OpusTags" + bytes(8)
    n_pages = int(duration_s / 5.1)
    sound = (_ogg_page(244_800 * (page + 1), page + 2, [b"\xf8\xff\xfe"] * 255) for page in range(n_pages))
    return _ogg_page(0, 0, [head], flags=2) + _ogg_page(0, 1, [tags]) + b"".join(sound)


def _ogg_page(granule: int, number: int, packets: list[bytes], flags: int = 0) -> bytes:
    lacing = bytes(len(packet) for packet in packets)
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 1, number, 0, len(packets))
    return sealed(head + lacing + b"".join(packets))


def _long_wav() -> bytes:
    """Eight channels of 24 bits, a minute beyond the limit of the tests."""
    frame = bytes(range(24))
    form = struct.pack("<HHIIHH", 1, 8, 8_000, 192_000, 24, 24)
    body = b"WAVE" + _wav_chunk(b"fmt ", form) + _wav_chunk(b"data", frame * 8_000 * 180)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


#: Small files that are hours of sound, and one that is large.
BOMBS: dict[str, tuple[Build, str]] = {
    "a day of silence in FLAC, stereo": (lambda: tracks.long_silent_flac(86_400), "too_long"),
    "a day of silence in FLAC of 8 kHz": (lambda: tracks.long_silent_flac(86_400, 8_000), "too_long"),
    "an hour of silence in MP3": (lambda: _silent_mp3(3600), "too_long"),
    "an hour of silence in Opus": (lambda: _silent_opus(3600), "too_long"),
    "three minutes in eight channels of 24 bits": (_long_wav, "too_long"),
    "FLAC that declares a second and holds a day": (
        lambda: with_flac_total(tracks.long_silent_flac(86_400), 44_100),
        "too_long",
    ),
    "WAV of 100 kB that lasts a day at 1 Hz": (lambda: wav(ramp(86_400).astype(np.uint8), 1), "sample_rate"),
    "MP3 that declares a second and holds an hour": (
        lambda: patched(file("mp3"), b"Xing", 8, struct.pack(">I", 38)) + _silent_mp3(3600),
        "changes",
    ),
}


def _zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as contents:
        contents.writestr("track.wav", wav(ramp(44_100)))
    return archive.getvalue()


#: Files of two kinds at once, or of a wrong kind inside. Those that are audio decode: nothing else of them is served.
POLYGLOTS: dict[str, tuple[Build, str]] = {
    "a WAV in gzip": (lambda: gzip.compress(wav(ramp(66_150))), "container"),
    "a WAV in a zip, not compressed": (_zip, "container"),
    "a zip behind a WAV": (lambda: wav(ramp(66_150)) + _zip(), DECODES),
    "HTML in the tag of an MP3": (lambda: patched(id3(999) + file("mp3"), b"ID3", 10, b"<script>"), DECODES),
    "an MP3 behind HTML": (lambda: b"<html></html>" + file("mp3"), "container"),
    "an ELF behind the header of a WAV": (lambda: wav(ramp(0))[:36] + b"\x7fELF" + bytes(9_999), "broken"),
    "a WAV in a WAV": (lambda: wav(np.frombuffer(wav(ramp(66_150)), np.uint8)), DECODES),
}

_SCRIPTS = {
    "M3U8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
    "M3U8 of a URL": "#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n",
    "M3U8 of a file URL": "#EXTM3U\n#EXTINF:9,\nfile://{path}\n",
    "M3U8 of a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{path}"\n#EXTINF:9,\na.ts\n',
    "M3U8 of a relative path": "#EXTM3U\n#EXTINF:9,\n{name}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\n",
    "ffconcat of a relative path": "ffconcat version 1.0\nfile {name}\n",
    "concat": "concat:{path}|{path}\n",
    "subfile": "subfile,,start,0,end,999,,:{path}\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio {port} RTP/AVP 0\n",
    "RTSP": "rtsp://127.0.0.1:{port}/track\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>',
    "IMF": '<?xml version="1.0"?><CompositionPlaylist><Id>{path}</Id></CompositionPlaylist>',
    "image2": "{path}%03d.png\n",
    "lavfi": "amovie={path}\n",
    "ffmetadata": ";FFMETADATA1\ntitle={path}\n",
    "ASX": '<asx version="3.0"><entry><ref href="file://{path}"/></entry></asx>',
    "PLS": "[playlist]\nFile1={path}\n",
    "RealMedia": "rtsp://127.0.0.1:{port}/a.rm\n--stop--\n",
}


def readers(canary: Path, port: int) -> dict[str, bytes]:
    """Scripts that name a file or a port, each bare and in every disguise."""
    texts = {name: text.format(path=canary, name=canary.name, port=port) for name, text in _SCRIPTS.items()}
    return {
        f"{name} behind {disguise}": magic + text.encode()
        for name, text in texts.items()
        for disguise, magic in DISGUISES.items()
    }
