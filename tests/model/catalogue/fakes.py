"""A decoder, a scorer and sources that take no time, for actors of the catalogue."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from model.audio.decoder import DecodedTrack
from model.audio.prefetch import PrefetchedTrack
from model.catalogue.actor import BucketActor, Work
from model.catalogue.output import OutputFolder
from model.catalogue.plan import write_plan
from model.catalogue.rows import Rows, ScoreRows
from model.catalogue.tracks import Track
from model.domain import SCORE_RANGES, AudioError, AudioFacts, AudioSilent
from model.inference.scorer import ModelCard, Scorer

VERSION = "stand-in-fake"


class FakeSources:
    """The audio of a track is its URI."""

    def open(self, uri: str) -> BinaryIO:
        if uri == "absent":
            raise FileNotFoundError(2, "No such file or directory")
        return io.BytesIO(uri.encode())


class FakeTrack:
    """One segment of nothing."""

    facts = AudioFacts("wav", "pcm_s16le", 24_000, 1, 180.0)
    n_segments = 1
    warnings = ()

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(hashlib.blake2b(data, digest_size=4).digest())

    def segments(self) -> Iterator[NDArray[np.float32]]:
        yield np.array([self._number], np.float32)

    def __enter__(self) -> "FakeTrack":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FakeDecoder:
    """Takes no time. URIs that say so are silent, or meet a machine that is at fault."""

    def decode(self, file: BinaryIO) -> DecodedTrack:
        data = file.read() if file.seek(0) == 0 else b""
        if data.startswith(b"silent"):
            raise AudioSilent("there is nothing to hear")
        if data.startswith(b"fault"):
            raise OSError(28, "No space left on device")
        return cast(DecodedTrack, FakeTrack(data))


@dataclass
class FakeScorer:
    """Scores that follow from the bytes of a track, in no time."""

    version: str = VERSION

    @property
    def card(self) -> ModelCard:
        return ModelCard(
            "apex", self.version, False, "", "", "", "fake", "cpu", "fp32", {}, scores=SCORE_RANGES, licences={}
        )

    def embed(self, track: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.array([[float(segment[0]), 1.0] for segment in track], np.float32)

    def score_embedding(self, embedding: NDArray[np.float32]) -> dict[str, float]:
        return {name: round(low + float(embedding[0]) % 1000 / 1000, 4) for name, (low, _) in SCORE_RANGES.items()}

    def score_many(self, tracks: Iterable[PrefetchedTrack[Any]]) -> Iterator[tuple[Any, Any]]:
        for track in tracks:
            try:
                yield track, self.score_embedding(self.embed(track)[0])
            except AudioError as error:
                yield track, error


@contextmanager
def fake_decoder() -> Iterator[FakeDecoder]:
    yield FakeDecoder()


def fake_scorer() -> Scorer:
    return cast(Scorer, FakeScorer())


def tracks(n_tracks: int) -> Iterator[Track]:
    return (Track(f"track-{number:07d}", f"audio of {number}") for number in range(n_tracks))


@contextmanager
def actor(
    folder: Path,
    uris: dict[str, str],
    *,
    rows: Rows | None = None,
    retry_failures: bool = False,
    version: str = VERSION,
) -> Iterator[BucketActor]:
    """An actor for a plan of one bucket, with the tracks of these ids and URIs, whose output is the folder `out`."""
    folder.mkdir(exist_ok=True)
    output, plan = OutputFolder(folder / "out"), write_plan(starmap(Track, uris.items()), folder, "m", bucket_tracks=9)
    output.replace("plan.parquet", plan.file)
    work = Work(
        output,
        "plan.parquet",
        FakeSources(),
        rows or ScoreRows(),
        fake_scorer,
        fake_decoder,
        version,
        retry_failures=retry_failures,
    )
    with closing(BucketActor(work)) as made:
        yield made
