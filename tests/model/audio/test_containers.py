"""The first bytes tell the container, and nothing that is not audio passes for one."""

import subprocess
import sys

import pytest

from model.audio.containers import CONTAINERS, HEAD_BYTES, SNIFF_BYTES, begins_as, detect_container
from tests.model.tracks import container_of, id3, track_file, video

NOT_AUDIO = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"This is a song about a cat, and it goes on and on.",
    "UTF-16 text": "\ufeffMost of this is text".encode("utf-16-le"),
    "HTML": b"<!DOCTYPE html><html><body>song</body></html>",
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "M3U8 playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n",
    "ffconcat script": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "HEIC picture": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00",
    "ELF": b"\x7fELF\x02\x01\x01\x00",
    "MIDI": b"MThd\x00\x00\x00\x06\x00\x01",
    "AVI": b"RIFF\x24\x00\x00\x00AVI LIST",
    "short RIFF": b"RIFF\x24\x00",
    "8SVX": b"FORM\x00\x00\x00\x248SVXVHDR",
    "MPEG layer II": b"\xff\xfd\x84\x04" + bytes(60),
    "MP3 of no bit rate": b"\xff\xfb\xf0\x04" + bytes(60),
    "ADTS of no length": b"\xff\xf1\x50\x80\x00\x1f\xfc" + bytes(60),
    "ID3 of a wrong size": b"ID3\x03\x00\x00\xff\xff\xff\xff",
    "zeros": bytes(64),
}

KINDS = [
    "wav-16", "wavex-24", "rf64-16", "flac-16", "mp3", "ogg-vorbis", "ogg-opus", "ogg-flac", "m4a-aac", "m4a-alac",
    "adts", "aiff-16", "aifc-float", "webm-opus", "mka-aac",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_bytes_name_the_container(kind: str) -> None:
    assert begins_as(track_file(kind)[:SNIFF_BYTES]) == container_of(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_one_container_at_most_claims_a_file(kind: str) -> None:
    head = track_file(kind)[:SNIFF_BYTES]
    assert sum(container.begins(head) for container in CONTAINERS) == 1


@pytest.mark.parametrize("head", NOT_AUDIO.values(), ids=NOT_AUDIO.keys())
def test_what_is_no_audio_has_no_container(head: bytes) -> None:
    assert detect_container(head) is None


def test_a_tag_longer_than_the_head_counts_as_an_mp3s() -> None:
    assert detect_container(id3(1_000_000)[:HEAD_BYTES]) == "mp3"


def test_an_mp4_with_video_is_an_mp4_until_it_is_decoded() -> None:
    assert begins_as(video()[:SNIFF_BYTES]) == "mp4"


def test_any_shorter_head_is_judged_without_an_error() -> None:
    for kind in KINDS:
        head = track_file(kind)[:SNIFF_BYTES]
        assert {begins_as(head[:n]) for n in range(SNIFF_BYTES)} <= {None, container_of(kind)}


def test_a_name_belongs_to_one_container() -> None:
    names = [container.name for container in CONTAINERS]
    assert len(set(names)) == len(names)


def test_the_front_end_can_import_it_without_a_numeric_package() -> None:
    check = "import sys, model.audio.containers; assert not {'numpy', 'av', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
