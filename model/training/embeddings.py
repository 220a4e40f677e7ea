"""Embeddings of segments with the labels of their songs, in the reference's Parquet layout, a row a segment.

    audio_id                       the song
    segment_id                     "{audio_id}_{i}", i from 1
    score_streams, score_likes     0 to 100
    platform
    segment_embedding              768 float32
    songeval_scores                the five aesthetic scores, as a structure or a JSON text of one; only for task full

For training they are packed once into flat arrays, with the embeddings memory-mapped: every epoch shuffles all rows,
and the operating system pages in what does not fit into memory.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.arrays import Floats
from model.domain import SCORE_RANGES, TASK_SCORES
from model.files import write_json
from model.training.labels import AESTHETICS, COUNTS, STRUCTURE, aesthetic_scores
from model.training.tables import DataError, Table, cell_error

SONG, SEGMENT, PLATFORM, VECTOR = "audio_id", "segment_id", "platform", "segment_embedding"
#: The entry in a file's metadata that says which encoder and layer mix its embeddings come from. The reference's files
#: have none.
METADATA_KEY = b"apex"
#: Rows that are held at a time while packing; 768 float32 of each make 25 MB.
CHUNK_ROWS = 8_192
#: The files of a packed split.
VECTORS, SUMS, ARRAYS, FACTS = "vectors.npy", "sums.npy", "arrays.npz", "facts.json"


@dataclass(frozen=True)
class Songs:
    """The songs of a split without their embeddings, in the order of first appearance."""

    ids: list[str]
    platforms: list[str]
    targets: NDArray[np.float32]  # (n_songs, n_tasks), in the order of `names`
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The targets of some scores, shape = (n_songs, len(names))."""
        return self.targets[:, [self.names.index(name) for name in names]]


@dataclass(frozen=True)
class Packed:
    """A split ready for training: `vectors[i]` belongs to the song `songs.ids[song_of[i]]`."""

    songs: Songs
    vectors: NDArray[np.float32]  # (n_rows, dim), memory-mapped
    song_of: NDArray[np.int64]  # (n_rows,)
    provenance: Mapping[str, Any]

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])


def schema(dim: int, *, full: bool, provenance: Mapping[str, Any] | None = None) -> pa.Schema:
    """The Arrow schema of the rows that `apex extract` writes."""
    fields = [(SONG, pa.string()), (SEGMENT, pa.string())]
    fields += [(name, pa.float64()) for name in COUNTS]
    fields += [(PLATFORM, pa.string()), (VECTOR, pa.list_(pa.float32(), dim))]
    if full:
        fields.append((STRUCTURE, pa.struct([(name, pa.float64()) for name in AESTHETICS])))
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(provenance, sort_keys=True)} if provenance else None)


def split_path(data: Path, split: str) -> Path:
    """Where a folder of embeddings keeps a split: a folder of Parquet files, or one file. Raises DataError."""
    for path in (data / split, data / f"{split}.parquet"):
        if path.exists():
            return path
    raise DataError(f"{data}: holds neither a folder {split!r} nor {split}.parquet")


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files of a split, in the order of their names. Raises DataError when there are none with rows."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    files = [file for file in files if not file.name.startswith(".")]
    if not any(open_parquet(file).metadata.num_rows for file in files):
        raise DataError(f"{path}: the split is empty: there is no Parquet file with rows")
    return files


def read_songs(path: Path, task: str) -> Songs:
    """The songs of a split with the targets of a task, checked row by row; embeddings are not read.

    Raises DataError naming file, column and row: for a missing column, a target that is no number or out of range, a
    segment that is there twice, or segments of one song that disagree.
    """
    songs, _ = _index(path, task)
    return songs


def pack(path: Path, directory: Path, *, task: str, mode: str, dim: int | None = None) -> Packed:
    """Check a split and write it as flat arrays in a directory; in mode song, segments are averaged.

    dim : the width that the embeddings must have; without it, that of the first one
    Raises DataError as `read_songs` does, and for embeddings of another width or with values that are not finite.
    """
    songs, song_of = _index(path, task)
    dim = dim or _width(path)
    directory.mkdir(parents=True, exist_ok=True)
    if mode == "song":
        _average(path, song_of, len(songs), dim, directory)
        song_of = np.arange(len(songs))
    else:
        vectors = _new_array(directory / VECTORS, np.float32, (len(song_of), dim))
        for start, chunk in _vectors(path, dim):
            vectors[start : start + len(chunk)] = chunk
    np.savez(directory / ARRAYS, song_of=song_of, targets=songs.targets)
    facts = {"ids": songs.ids, "platforms": songs.platforms, "names": songs.names}
    write_json(directory / FACTS, facts | {"provenance": read_provenance(path)})
    return open_packed(directory)


def pack_splits(
    data: Path, directory: Path, splits: Sequence[str] = ("train", "val"), *, task: str, mode: str
) -> dict[str, Packed]:
    """Packs several splits of a folder, each into a directory of its name.

    Raises DataError as `pack` does, and for a song that is in two of them, or embeddings unlike those of the first.
    """
    packed: dict[str, Packed] = {}
    for split in splits:
        path = split_path(data, split)
        first = next(iter(packed.values()), None)
        new = pack(path, directory / split, task=task, mode=mode, dim=first.dim if first else None)
        if first and new.provenance != first.provenance:
            raise DataError(
                f"{path}: its embeddings come from another encoder or layer mix than those of {splits[0]!r}"
            )
        for other in packed.values():
            check_no_overlap(other.songs, new.songs, path)
        packed[split] = new
    return packed


def fingerprint(data: Path, splits: Sequence[str] = ("train", "val")) -> str:
    """A hash that changes when the splits of a folder do, of the footers of their files: a matter of milliseconds."""
    digest = sha256()
    for file in (file for split in splits for file in parquet_files(split_path(data, split))):
        with file.open("rb") as content:
            content.seek(-8, os.SEEK_END)
            n_bytes = int.from_bytes(content.read(4), "little") + 8
            content.seek(-n_bytes, os.SEEK_END)
            digest.update(f"{file.name} {file.stat().st_size} ".encode() + content.read(n_bytes))
    return digest.hexdigest()


def open_packed(directory: Path) -> Packed:
    """Open what `pack` wrote into a directory. The embeddings are memory-mapped, and not read yet."""
    facts = json.loads((directory / FACTS).read_text("utf-8"))
    with np.load(directory / ARRAYS) as arrays:
        targets, song_of = arrays["targets"], arrays["song_of"]
    songs = Songs(facts["ids"], facts["platforms"], targets, tuple(facts["names"]))
    return Packed(songs, np.load(directory / VECTORS, mmap_mode="r"), song_of, facts["provenance"])


def read_provenance(path: Path) -> dict[str, Any]:
    """The encoder and layer mix in the metadata of a split's files; empty for the reference's. Raises DataError."""
    found: dict[str, Any] = {}
    for index, file in enumerate(parquet_files(path)):
        text = (open_parquet(file).schema_arrow.metadata or {}).get(METADATA_KEY, b"{}")
        if index and json.loads(text) != found:
            raise DataError(f"{file}: its embeddings come from another encoder or layer mix than those before it")
        found = json.loads(text)
    return found


def check_no_overlap(first: Songs, second: Songs, path: Path) -> None:
    """Raises DataError when a song of the first split is in the second too, whose path is given."""
    seen = set(first.ids)
    for song in second.ids:
        if song in seen:
            raise cell_error(*_first_row_of(path, song), f"{song!r} is in another split too")


def _first_row_of(path: Path, song: str) -> tuple[Path, str, int]:
    """The file, the column and the row (from 0) where a song of a split is first named."""
    for file in parquet_files(path):
        if song in (songs := open_parquet(file).read(columns=[SONG]).column(0).to_pylist()):
            return file, SONG, songs.index(song)
    raise LookupError(song)


def _index(path: Path, task: str) -> tuple[Songs, NDArray[np.int64]]:
    """The songs, and for each row of the split the number of its song."""
    index = _Index(task)
    for file in parquet_files(path):
        index.add(file)
    return index.songs(), np.array(index.song_of, np.int64)


class _Index:
    """Collects all columns but the embeddings, file by file."""

    def __init__(self, task: str) -> None:
        self.names = TASK_SCORES[task]
        self.song_of: list[int] = []
        self._number_of: dict[str, int] = {}
        self._platforms: list[str] = []
        self._targets: list[Floats] = []
        self._segments: set[str] = set()

    def add(self, file: Path) -> None:
        wanted = [SONG, SEGMENT, PLATFORM, *COUNTS, *(AESTHETICS if len(self.names) > len(COUNTS) else ())]
        table = _light_table(file, wanted)
        rows = zip(table.texts(SONG), table.texts(SEGMENT), table.texts(PLATFORM), self._rows(table), strict=True)
        for row, (song, segment, platform, targets) in enumerate(rows):
            self._add_segment(segment, file, row)
            self._add_song(song, platform, targets, file, row)

    def songs(self) -> Songs:
        return Songs(list(self._number_of), self._platforms, np.array(self._targets, np.float32), self.names)

    def _rows(self, table: Table) -> Floats:
        scores = {name: table.numbers(name, *SCORE_RANGES[name]) for name in COUNTS}
        if len(self.names) > len(COUNTS) and not (aesthetics := aesthetic_scores(table)):
            raise DataError(f"{table.path}: has no column {STRUCTURE!r}, which task full asks for; try task popularity")
        elif len(self.names) > len(COUNTS):
            scores |= aesthetics
        return np.stack([scores[name] for name in self.names], axis=1)

    def _add_segment(self, segment: str, file: Path, row: int) -> None:
        if segment in self._segments:
            raise cell_error(file, SEGMENT, row, f"{segment!r} is there twice")
        self._segments.add(segment)

    def _add_song(self, song: str, platform: str, targets: Floats, file: Path, row: int) -> None:
        number = self._number_of.setdefault(song, len(self._number_of))
        if number == len(self._targets):
            self._targets.append(targets)
            self._platforms.append(platform)
        elif differing := np.flatnonzero(self._targets[number] != targets).tolist():
            raise cell_error(
                file, self.names[differing[0]], row, f"differs from that of an earlier segment of {song!r}"
            )
        self.song_of.append(number)


def _light_table(file: Path, wanted: Sequence[str]) -> Table:
    """The columns of a file that are wanted, or hold the aesthetic scores as one; embeddings stay on the disk."""
    parquet = open_parquet(file)
    present = parquet.schema_arrow.names
    columns = [name for name in present if name in wanted or (name == STRUCTURE and set(AESTHETICS) & set(wanted))]
    table = Table(file, parquet.read(columns=columns).to_pydict())
    for name in (SONG, SEGMENT, PLATFORM, *COUNTS, VECTOR):
        if name not in present:
            raise DataError(f"{file}: has no column {name!r}; its columns are {', '.join(present)}")
    return table


def _average(path: Path, song_of: NDArray[np.int64], n_songs: int, dim: int, directory: Path) -> None:
    """The plain mean over each song's segments, in float64 as the scorer takes it."""
    sums = _new_array(directory / SUMS, np.float64, (n_songs, dim))
    for start, chunk in _vectors(path, dim):
        np.add.at(sums, song_of[start : start + len(chunk)], chunk)
    counts = np.bincount(song_of, minlength=n_songs)
    vectors = _new_array(directory / VECTORS, np.float32, (n_songs, dim))
    for start in range(0, n_songs, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        vectors[part] = sums[part] / counts[part, None]
    (directory / SUMS).unlink()


def _new_array(path: Path, dtype: type, shape: tuple[int, int]) -> "NDArray[Any]":
    array: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    return array


def _vectors(path: Path, dim: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The embeddings of a split, piece by piece, each with the number of its first row."""
    start = 0
    for file in parquet_files(path):
        row = 0
        for batch in open_parquet(file).iter_batches(CHUNK_ROWS, columns=[VECTOR]):
            chunk = _matrix(batch.column(0), dim, file, row)
            yield start + row, chunk
            row += len(chunk)
        start += row


def _matrix(column: pa.Array, dim: int, file: Path, first_row: int) -> NDArray[np.float32]:
    widths = np.asarray(_lengths(column, file, first_row))
    for row in np.flatnonzero(widths != dim)[:1]:
        raise cell_error(file, VECTOR, first_row + int(row), f"has {widths[row]} values, not {dim}")
    matrix: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, dim)
    for row in np.flatnonzero(~np.isfinite(matrix).all(axis=1))[:1]:
        raise cell_error(file, VECTOR, first_row + int(row), "holds NaN or infinity")
    return matrix


def _lengths(column: pa.Array, file: Path, first_row: int) -> pa.Array:
    """How many numbers each embedding has, 0 for one that is missing."""
    kind = column.type
    if not (_is_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))):
        raise cell_error(file, VECTOR, first_row, f"is of type {kind}, and no list of numbers")
    return column.value_lengths().fill_null(0)


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType)


def _width(path: Path) -> int:
    """The width of the first embedding of a split."""
    file = next(file for file in parquet_files(path) if open_parquet(file).metadata.num_rows)
    batch = next(open_parquet(file).iter_batches(1, columns=[VECTOR]))
    if not (width := _lengths(batch.column(0), file, 0)[0].as_py()):
        raise cell_error(file, VECTOR, 0, "is empty")
    return int(width)


def open_parquet(file: Path) -> pq.ParquetFile:
    """A Parquet file, of which nothing but the footer has been read. Raises DataError when it is none."""
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read as Parquet: {' '.join(str(error).split())}") from error
