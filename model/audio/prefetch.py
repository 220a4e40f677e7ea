"""Tracks decoded ahead of the model, several at a time, and taken in order."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import BinaryIO, Generic, Literal, Protocol, TypeVar

from model.audio.decoder import DecodedTrack
from model.audio.pcm import Samples
from model.domain import AudioError, AudioFacts, AudioWarning


class AudioFile(Protocol):
    """What a track is decoded from, such as a `Path`."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...


class TrackDecoder(Protocol):
    """What decodes tracks, such as a `Decoder`."""

    def decode(self, file: BinaryIO, /) -> DecodedTrack: ...


FileT = TypeVar("FileT", bound=AudioFile)


class FileUnreadable(AudioError):
    """The file could not be read at all."""

    code = "file_unreadable"


class PrefetchedTrack(Generic[FileT]):
    """A file whose decoding is under way. Its segments can be read once; its facts are there from the first on."""

    def __init__(self, file: FileT, decoding: Future[DecodedTrack]) -> None:
        self.file = file
        self.facts: AudioFacts | None = None
        self.n_segments = 0
        self.warnings: tuple[AudioWarning, ...] = ()
        self._decoding = decoding

    def __iter__(self) -> Iterator[Samples]:
        """The segments, as `DecodedTrack.segments` gives them. Raises AudioError where there are none to be had."""
        try:
            track = self._decoding.result()
        except OSError as error:
            raise FileUnreadable(error.strerror or str(error)) from error
        with track:
            self.facts, self.n_segments, self.warnings = track.facts, track.n_segments, track.warnings
            yield from track.segments()


def prefetch(
    files: Iterable[FileT], decoder: TrackDecoder, *, n_threads: int
) -> Generator[PrefetchedTrack[FileT], None, None]:
    """The files in order; as many as there are threads are decoded while the one before them is read."""
    remaining = iter(files)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool:
        begun = deque(_begin(pool, file, decoder) for file in islice(remaining, n_threads))
        while begun:
            yield begun.popleft()
            begun.extend(_begin(pool, file, decoder) for file in islice(remaining, 1))


def _begin(pool: ThreadPoolExecutor, file: FileT, decoder: TrackDecoder) -> PrefetchedTrack[FileT]:
    return PrefetchedTrack(file, pool.submit(_decode, file, decoder))


def _decode(file: AudioFile, decoder: TrackDecoder) -> DecodedTrack:
    with file.open("rb") as audio:
        return decoder.decode(audio)
