"""The scan of MPEG frames, which reads the file window by window."""

import os
from io import FileIO

import pytest

from model.audio.byte_ranges import Source
from model.audio.scan.mpeg import scan_mp3

FRAME = bytes.fromhex("fffb9000") + bytes(413)  # 128 kbit/s at 44.1 kHz
N_FRAMES = 400
WINDOW_BYTES = 64 * 1024


def marked_at(index: int, offset: int) -> bytes:
    """Frames of which the first and another hold the mark of a recording's start."""
    data = bytearray(FRAME * N_FRAMES)
    for at in (36, index * len(FRAME) + offset):
        data[at : at + 4] = b"Info"
    return bytes(data)


@pytest.mark.parametrize("index", range(WINDOW_BYTES // len(FRAME) - 1, WINDOW_BYTES // len(FRAME) + 2))
@pytest.mark.parametrize(("offset", "n_joined"), [(36, 2), (60, 2), (61, 0)])
def test_a_recording_that_starts_at_the_edge_of_a_window_is_counted(index: int, offset: int, n_joined: int) -> None:
    data = marked_at(index, offset)
    with FileIO(os.memfd_create("track"), "w+") as file:
        file.write(data)
        layout = scan_mp3(Source(file.fileno()), 0)
    assert layout.parts == [range(len(data))]
    assert layout.warnings["joined_streams"] == n_joined
