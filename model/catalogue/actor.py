"""What runs on the nodes: an actor that makes whole files of the output, one bucket after another."""

import errno
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain
from threading import Lock
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.audio.decoder import DecodedTrack
from model.audio.prefetch import PrefetchedTrack, TrackDecoder, prefetch
from model.catalogue.output import Output
from model.catalogue.plan import Bucket, PlanReader
from model.catalogue.rows import Rows, encoded, summary_of, total
from model.catalogue.sources import Sources, TrackFile, Unavailable
from model.catalogue.tracks import Outcome, Summary
from model.domain import AudioError, ModelOutputInvalid, WeightsError
from model.inference.analysis import mean_embedding
from model.inference.scorer import Scorer, TrackError
from model.processors import usable_cores

#: Buckets that an actor has at a time: while the model works on one, the next one's first tracks are decoded.
BUCKETS_AT_ONCE = 2
#: What a file itself may cause; other errors of the system while it is decoded are this machine's.
_ERRNOS_OF_A_FILE = frozenset([errno.EINVAL, errno.EIO])

TrackOfFile = PrefetchedTrack[TrackFile]


@dataclass(frozen=True)
class Work:
    """What every actor is told."""

    output: Output
    plan: str  # the name of its file in the output
    sources: Sources
    rows: Rows
    load_scorer: Callable[[], Scorer]
    open_decoder: Callable[[], AbstractContextManager[TrackDecoder]]
    model_version: str
    actors_per_node: int = 1
    retry_failures: bool = False

    @property
    def n_threads(self) -> int:
        """Threads of the model; as many tracks are decoded at a time. Of the node that asks."""
        return max(1, usable_cores() // self.actors_per_node)


class BucketActor:
    """Makes files of the output, with the networks and the decoder kept warm. Several threads may call it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._model = Lock()  # the scorer is of one thread at a time
        self._opening = Lock()
        self._opened = ExitStack()
        self._plan: PlanReader | None = None
        self._decoder: TrackDecoder | None = None
        self._scorer: Scorer | None = None
        self._under_way: dict[int, Summary] = {}

    def ready(self) -> None:
        """Return, once there is an actor."""

    def under_way(self) -> Summary:
        """The tracks done of buckets that are not."""
        return sum(list(self._under_way.values()), Summary())

    def run(self, index: int) -> Summary:
        """Make the file of a bucket, unless it is there; its summary. Raises `ApexError`, and `OSError` of the output.

        Of a file that is there, tracks that have failed are tried again where that was asked for.
        """
        bucket = self._bucket(index)
        earlier = self._earlier(bucket)
        if earlier is None:
            table, summary = self._made(index, bucket)
            return summary if self._create(bucket, table, summary) else self._required(bucket)
        if not (self._work.retry_failures and earlier.failures):
            return earlier
        table, summary = self._mended(index, bucket, earlier)
        self._work.output.replace(bucket.name, encoded(table, summary))
        return summary

    def close(self) -> None:
        """End the decoder's processes and close the plan."""
        self._opened.close()

    def _bucket(self, index: int) -> Bucket:
        with self._opening:
            if self._plan is None:
                self._plan = PlanReader(self._opened.enter_context(self._work.output.open(self._work.plan)))
            return self._plan.bucket(index)

    def _earlier(self, bucket: Bucket) -> Summary | None:
        """The summary of a bucket's file; None where there is none."""
        try:
            with self._work.output.open(bucket.name) as file:
                return summary_of(file, f"{self._work.output}/{bucket.name}")
        except FileNotFoundError:
            return None

    def _required(self, bucket: Bucket) -> Summary:
        if (summary := self._earlier(bucket)) is None:
            raise Unavailable(f"{self._work.output}/{bucket.name}: is there and is not, one after the other")
        return summary

    def _create(self, bucket: Bucket, table: pa.Table, summary: Summary) -> bool:
        """False where another process has written the file meanwhile."""
        return self._work.output.create(bucket.name, encoded(table, summary))

    def _made(self, index: int, bucket: Bucket) -> tuple[pa.Table, Summary]:
        outcomes = []
        try:
            for outcome in self._outcomes(bucket):
                outcomes.append(outcome)
                self._under_way[index] = self._under_way.get(index, Summary()) + Summary.of(outcome)
        finally:
            self._under_way.pop(index, None)
        return self._work.rows.table(outcomes, self._loaded().card), total(outcomes)

    def _mended(self, index: int, bucket: Bucket, earlier: Summary) -> tuple[pa.Table, Summary]:
        """The table of a bucket whose failed tracks are tried again, in the order of all."""
        with self._work.output.open(bucket.name) as file:
            old = pq.read_table(io.BytesIO(file.read()))
        done = self._work.rows.finished(old)
        kept = old.filter(pa.array([bool(key) for key in done], pa.bool_()))
        failed = [track for track in bucket.tracks if track.id not in set(done)]
        table, summary = self._made(index, replace(bucket, tracks=failed))
        place = {track.id: number for number, track in enumerate(bucket.tracks)}
        ids = [key for key in done if key] + list(table.column(0).to_pylist())
        order = np.argsort([place[key] for key in ids], kind="stable")
        merged = pa.concat_tables([kept.replace_schema_metadata(None), table.replace_schema_metadata(None)])
        merged = merged.take(pa.array(order)).replace_schema_metadata(table.schema.metadata)
        return merged, Summary(len(bucket.tracks), earlier.audio_s + summary.audio_s, summary.failures)

    def _outcomes(self, bucket: Bucket) -> Iterator[Outcome]:
        """The outcomes of a bucket's tracks in order. Decoding begins while the model is busy with another bucket."""
        files = (TrackFile(track, self._work.sources) for track in bucket.tracks)
        tracks = prefetch(files, self._opened_decoder(), n_threads=self._work.n_threads)
        with closing(tracks):
            begun = list(filter(None, [next(tracks, None)]))
            with self._model:
                for track, result in self._results(chain(begun, tracks)):
                    yield _outcome(track, *result)

    def _results(
        self, tracks: Iterable[TrackOfFile]
    ) -> "Iterator[tuple[TrackOfFile, tuple[dict[str, float] | TrackError, np.ndarray | None]]]":
        scorer = self._loaded()
        if not self._work.rows.needs_vectors:
            yield from ((track, (result, None)) for track, result in scorer.score_many(tracks))
            return
        for track in tracks:
            try:
                vectors = scorer.embed(track)
                yield track, (scorer.score_embedding(mean_embedding(vectors)), vectors)
            except (AudioError, ModelOutputInvalid) as error:
                yield track, (error, None)

    def _opened_decoder(self) -> TrackDecoder:
        with self._opening:
            if self._decoder is None:
                self._decoder = _Decoder(self._opened.enter_context(self._work.open_decoder()))
            return self._decoder

    def _loaded(self) -> Scorer:
        with self._opening:
            if self._scorer is None:
                torch.set_num_threads(self._work.n_threads)  # Ray's own default is one
                self._scorer = self._work.load_scorer()
            if self._scorer.card.version != self._work.model_version:
                raise WeightsError(
                    f"a node has other weights than where the run was started: {self._scorer.card.version}, not"
                    f" {self._work.model_version}"
                )
            return self._scorer


class _Decoder:
    """A decoder whose errors of this machine are no failures of tracks."""

    def __init__(self, decoder: TrackDecoder) -> None:
        self._decoder = decoder

    def decode(self, file: BinaryIO) -> DecodedTrack:
        try:
            return self._decoder.decode(file)
        except OSError as error:
            if error.errno in _ERRNOS_OF_A_FILE:
                raise
            raise Unavailable(f"tracks cannot be decoded: {error.strerror or error}") from error


def _outcome(track: TrackOfFile, result: dict[str, float] | TrackError, vectors: "np.ndarray | None") -> Outcome:
    made = Outcome(track.file.track, track.file.sha256, track.facts, track.n_segments, track.warnings)
    if isinstance(result, TrackError):
        return replace(made, code=result.code, detail=str(result))
    return replace(made, scores=result, vectors=vectors)
