"""Decoding ahead: in order, bounded, and with a file's fault kept to that file."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest

from model.audio.decoder import Decoder
from model.audio.pcm import Samples
from model.audio.prefetch import FileUnreadable, prefetch
from model.domain import AudioFacts, AudioUndecodable


class FakeTrack:
    """A track of one segment that holds its file's name as a number."""

    n_segments = 1
    warnings = ()

    def __init__(self, number: int, closed: list[int]) -> None:
        self.facts = AudioFacts("wav", "pcm_s16le", 24_000, 1, float(number))
        self._closed = closed

    def segments(self) -> Iterator[Samples]:
        yield np.full(4, self.facts.duration_s, np.float32)

    def __enter__(self) -> "FakeTrack":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.append(int(self.facts.duration_s))


class FakeDecoder:
    """The lower the number in a file, the longer it takes; a file that says so is broken."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.closed: list[int] = []
        self.n_at_once = self._n_running = 0
        self._lock = threading.Lock()

    def decode(self, file: BinaryIO) -> FakeTrack:
        text = file.read().decode()
        with self._lock:
            self._n_running += 1
            self.n_at_once = max(self.n_at_once, self._n_running)
        time.sleep(0.02)
        with self._lock:
            self._n_running -= 1
        if text == "broken":
            raise AudioUndecodable("it is broken")
        self.begun.append(int(text))
        return FakeTrack(int(text), self.closed)


@pytest.fixture
def decoder() -> FakeDecoder:
    return FakeDecoder()


def files(folder: Path, *contents: object) -> list[Path]:
    paths = [folder / f"{index}.wav" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(str(content))
    return paths


def test_tracks_come_in_order_with_their_facts_and_are_closed(tmp_path: Path, decoder: FakeDecoder) -> None:
    tracks = list(prefetch(files(tmp_path, *range(7)), cast(Decoder, decoder), n_threads=3))
    assert [segment[0] for track in tracks for segment in track] == list(range(7))
    assert [track.facts.duration_s for track in tracks if track.facts] == list(range(7))
    assert decoder.closed == list(range(7))
    assert decoder.n_at_once == 3


def test_no_more_are_decoded_than_there_are_threads_to_spare(tmp_path: Path, decoder: FakeDecoder) -> None:
    tracks = prefetch(files(tmp_path, *range(9)), cast(Decoder, decoder), n_threads=2)
    next(tracks)
    time.sleep(0.2)
    assert sorted(decoder.begun) == [0, 1]
    tracks.close()


def test_a_files_fault_is_told_when_it_is_read(tmp_path: Path, decoder: FakeDecoder) -> None:
    paths = [*files(tmp_path, 0, "broken"), tmp_path / "absent.wav"]
    good, broken, absent = prefetch(paths, cast(Decoder, decoder), n_threads=2)
    assert len(list(good)) == 1
    with pytest.raises(AudioUndecodable):
        list(broken)
    with pytest.raises(FileUnreadable, match="No such file") as error:
        list(absent)
    assert error.value.code == "file_unreadable"
