"""The Parquet files (shards) that an extraction writes. Each appears whole or not at all; a song in a shard is done.

Knows nothing of audio and of networks.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from model.training.embeddings import METADATA_KEY, SEGMENT, SONG, VECTOR, open_parquet, schema
from model.training.labels import ID, STRUCTURE
from model.training.tables import DataError, write_parquet

FAILURES = "failures.parquet"
FAILURE_SCHEMA = pa.schema([(name, pa.string()) for name in (ID, "split", "code", "detail")])
#: A shard is written after this time, however few its songs: the most work that is lost with a killed process.
SHARD_S = 60.0


@dataclass(frozen=True)
class Song:
    """A song to be embedded, and the columns that its rows have beside the embedding."""

    id: str
    split: str
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The embeddings of a song's segments, shape = (n_segments, dim); or the code and detail of its failure."""

    song: Song
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    code: str = ""
    detail: str = ""


class ShardWriter:
    """Collects outcomes and writes them in shards."""

    def __init__(self, out: Path, provenance: Mapping[str, Any], shard_songs: int, retry_failures: bool) -> None:
        self._out = out
        self._shard_songs = shard_songs
        self._provenance = provenance
        self._pending: dict[str, list[Outcome]] = {}
        self._written_at = time.monotonic()
        for leftover in out.rglob(".*.partial"):
            leftover.unlink()
        self._failures = [] if retry_failures else _read_failures(out / FAILURES)
        self._new_failures = retry_failures
        self._finished: dict[str, set[str]] = {}

    @property
    def failures(self) -> dict[tuple[str, str], str]:
        """The error code of each song that has failed, by its split and id."""
        return {(failure["split"], failure[ID]): failure["code"] for failure in self._failures}

    def finished(self, split: str) -> set[str]:
        """The ids of a split that need no more work. Raises DataError when they come from other weights."""
        if split not in self._finished:
            failed = {failure[ID] for failure in self._failures if failure["split"] == split}
            self._finished[split] = failed.union(*map(self._ids, self._shards(split)))
        return self._finished[split]

    def add(self, outcome: Outcome) -> None:
        """Add an outcome. Writes a shard when there are enough outcomes, or the last shard is old enough."""
        if outcome.code:
            about = {ID: outcome.song.id, "split": outcome.song.split, "code": outcome.code, "detail": outcome.detail}
            self._failures.append(about)
            self._new_failures = True
        else:
            self._pending.setdefault(outcome.song.split, []).append(outcome)
        enough = sum(map(len, self._pending.values())) >= self._shard_songs
        if enough or time.monotonic() - self._written_at > SHARD_S:
            self.flush()

    def flush(self) -> None:
        """Write all outcomes that are not written yet."""
        for split, outcomes in self._pending.items():
            (self._out / split).mkdir(exist_ok=True)
            number = 1 + max((int(path.stem.rpartition("-")[2]) for path in self._shards(split)), default=0)
            write_parquet(self._out / split / f"part-{number:06d}.parquet", _rows(outcomes, self._provenance))
        if self._new_failures:
            write_parquet(self._out / FAILURES, pa.Table.from_pylist(self._failures, FAILURE_SCHEMA))
        self._pending, self._new_failures, self._written_at = {}, False, time.monotonic()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()  # after Ctrl-C or an error too: what has been embedded is kept

    def _shards(self, split: str) -> list[Path]:
        return sorted((self._out / split).glob("part-[0-9][0-9][0-9][0-9][0-9][0-9].parquet"))

    def _ids(self, shard: Path) -> set[str]:
        file = open_parquet(shard)
        if json.loads((file.schema_arrow.metadata or {}).get(METADATA_KEY, b"{}")) != self._provenance:
            raise DataError(f"{shard}: its embeddings come from other weights; choose another --out")
        return set(file.read(columns=[SONG]).column(0).to_pylist())


def _rows(outcomes: Iterable[Outcome], provenance: Mapping[str, Any]) -> pa.Table:
    """A row a segment, in the reference's layout."""
    rows: dict[str, list[Any]] = {}
    matrices = []
    for outcome in outcomes:
        matrices.append(outcome.vectors)
        for number in range(1, len(outcome.vectors) + 1):
            about = {SONG: outcome.song.id, SEGMENT: f"{outcome.song.id}_{number}", **outcome.song.labels}
            for name, value in about.items():
                rows.setdefault(name, []).append(value)
    vectors = np.concatenate(matrices)
    layout = schema(vectors.shape[1], full=STRUCTURE in rows, provenance=provenance)
    columns = rows | {VECTOR: pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])}
    return pa.table([pa.array(columns[name], layout.field(name).type) for name in layout.names], schema=layout)


def _read_failures(path: Path) -> list[dict[str, str]]:
    failures: list[dict[str, str]] = open_parquet(path).read().to_pylist() if path.exists() else []
    return failures


@contextmanager
def exclusive_lock(out: Path) -> Iterator[None]:
    """Refuse a second extraction into the same folder. The system releases the lock of a process that is killed."""
    try:
        lock = FileLock(out / ".lock", blocking=False, fallback_to_soft=False).acquire()
    except Timeout as error:
        raise DataError(f"{out}: another extraction into this folder is running") from error
    with lock:
        yield
