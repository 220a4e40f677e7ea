"""The plan of a run: all tracks of its manifest in the order of a hash of their ids, cut into buckets.

A bucket is what one file of the output is made from. Which tracks are in it depends on nothing but the manifest's rows,
whatever their order. Sorted in parts on the disk, so that memory does not grow with the manifest.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from os import fsdecode, fsencode
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from model.catalogue.tracks import Track
from model.training.tables import DataError, cell_error, composed

#: Parts that are sorted one after another: how much of a manifest is in memory at a time.
N_PARTS = 256
#: Lines of a part that are written together.
BUFFERED_LINES = 64
#: With more tracks than fit into so many buckets, a bucket takes more.
MAX_BUCKETS = 10_000
GROUPS_KEY = b"apex_groups"
SCHEMA = pa.schema([("group", pa.string()), ("id", pa.string()), ("uri", pa.binary()), ("about", pa.string())])


@dataclass(frozen=True)
class Plan:
    """A plan in a file, and a hash of its tracks."""

    file: Path
    digest: str
    n_tracks: int
    n_buckets: int


@dataclass(frozen=True)
class Bucket:
    """The tracks of one file of the output, whose number counts from 1 within their group."""

    group: str
    number: int
    tracks: Sequence[Track]

    @property
    def name(self) -> str:
        """Of its file, below the output."""
        return "/".join(filter(None, (self.group, f"part-{self.number:06d}.parquet")))


def write_plan(
    tracks: Iterable[Track],
    folder: Path,
    manifest: str,
    *,
    bucket_tracks: int,
    identity: Callable[[str], str] = lambda uri: uri,
) -> Plan:
    """Write the plan of a manifest's tracks into a folder, for buckets of so many tracks.

    identity : what of a URI tells one manifest from another
    Raises DataError where there is none, or two of one group have the same id.
    """
    groups, n_tracks = _spill(tracks, folder)
    if not n_tracks:
        raise DataError(f"{manifest}: has no tracks")
    size = max(bucket_tracks, -(-n_tracks // MAX_BUCKETS))
    digest = _Digest(identity)
    n_buckets = {}
    with pq.ParquetWriter(folder / "plan.parquet", SCHEMA, compression="zstd") as writer:
        for group in sorted(groups):
            rows = digest.of_all(_sorted(folder, group, manifest))
            n_buckets[group] = _write_buckets(writer, rows, size)
        writer.add_key_value_metadata({GROUPS_KEY: json.dumps(n_buckets).encode()})
    return Plan(folder / "plan.parquet", digest.hexdigest(), n_tracks, sum(n_buckets.values()))


class PlanReader:
    """A plan, of which nothing but the directory is in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._parquet = pq.ParquetFile(file)
        self._groups: dict[str, int] = json.loads(self._parquet.metadata.metadata[GROUPS_KEY])

    def bucket(self, index: int) -> Bucket:
        """A bucket by its number among all, from 0."""
        rows = self._parquet.read_row_group(index).to_pylist()
        tracks = [Track(row["id"], fsdecode(row["uri"]), json.loads(row["about"]), row["group"]) for row in rows]
        for group, n_buckets in self._groups.items():
            if index < n_buckets:
                return Bucket(group, index + 1, tracks)
            index -= n_buckets
        raise IndexError(index)


def _spill(tracks: Iterable[Track], folder: Path) -> tuple[set[str], int]:
    """Write each track to the part that its hash belongs to; the groups, and how many tracks there are."""
    waiting: dict[Path, list[str]] = defaultdict(list)
    groups, row = set(), -1
    for row, track in enumerate(tracks):
        key = hashlib.blake2b(composed(track.id).encode(), digest_size=8).hexdigest()
        groups.add(track.group)
        lines = waiting[path := _part(folder, track.group, int(key[:2], 16))]
        lines.append(json.dumps([key, track.id, row, track.uri, track.about]) + "\n")
        if len(lines) == BUFFERED_LINES:
            _append(path, waiting.pop(path))
    for path, lines in waiting.items():
        _append(path, lines)
    return groups, row + 1


def _part(folder: Path, group: str, number: int) -> Path:
    return folder / f"{group}-{number}.jsonl"


def _append(path: Path, lines: list[str]) -> None:
    with path.open("a") as file:
        file.writelines(lines)


class _Digest:
    """A hash of rows that pass by."""

    def __init__(self, identity: Callable[[str], str]) -> None:
        self._identity = identity
        self._sum = hashlib.sha256()

    def of_all(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            uri = self._identity(fsdecode(row["uri"]))
            self._sum.update((json.dumps([row["group"], row["id"], uri, row["about"]]) + "\n").encode())
            yield row

    def hexdigest(self) -> str:
        return self._sum.hexdigest()


def _sorted(folder: Path, group: str, manifest: str) -> Iterator[dict[str, Any]]:
    """The rows of a group's tracks in the order of their hashes."""
    for number in range(N_PARTS):
        path = _part(folder, group, number)
        if not path.exists():
            continue
        with path.open() as file:
            lines = sorted(map(json.loads, file), key=lambda line: (line[0], composed(line[1]), line[2]))
        path.unlink()
        previous: tuple[str, int] = ("", -1)
        for _, key, row, uri, about in lines:
            if previous[0] == composed(key):
                raise cell_error(manifest, "id", row, f"{key!r} is in row {previous[1] + 1} too")
            previous = composed(key), row
            yield {"group": group, "id": key, "uri": fsencode(uri), "about": json.dumps(about, sort_keys=True)}


def _write_buckets(writer: Any, rows: Iterator[dict[str, Any]], size: int) -> int:
    """Write each bucket as a row group; how many there are."""
    n_buckets = 0
    while bucket := list(islice(rows, size)):
        writer.write_table(pa.Table.from_pylist(bucket, SCHEMA))
        n_buckets += 1
    return n_buckets
