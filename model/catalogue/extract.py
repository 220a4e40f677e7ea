"""Embed the songs of a catalogue for training: the engine of `model.catalogue.engine`, with embeddings and labels.

The embeddings are those of the service, by the same decoder and scorer. A song in a file is done: a run that is killed
at any moment and started again has no song missing or twice.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.audio.decoder import temporary_decoder
from model.catalogue.audio_files import AudioFiles, choose_audio, find_audio, is_local
from model.catalogue.engine import PROVENANCE, Catalogue, Progress, Slots, run
from model.catalogue.output import OutputFolder
from model.catalogue.sources import open_regular
from model.catalogue.tracks import Outcome, Summary, Track
from model.domain import SCORE_RANGES, AudioError, AudioLimits
from model.files import atomic_write
from model.inference.device import resolve_device
from model.inference.scorer import ModelCard, Scorer, model_version, provenance
from model.networks.head_formats import load_head
from model.training.embeddings import PLATFORM, SEGMENT, SONG, VECTOR, open_parquet, schema
from model.training.labels import COUNTS, ID, STRUCTURE, aesthetic_scores
from model.training.splits import SPLITS
from model.training.tables import DataError, Table, cell_error, read_table

FAILURES = "failures.parquet"
FAILURE_SCHEMA = pa.schema([(name, pa.string()) for name in (ID, "split", "code", "detail")])
#: The entry of a file's footer with the songs of its bucket that have failed.
FAILURES_KEY = b"apex_failures"
#: Between the paths of files that have the name of one song; none holds it.
BETWEEN = "\0"


class AudioMissing(AudioError):
    """There is no file of the song."""

    code = "audio_missing"


@dataclass(frozen=True)
class ExtractConfig:
    """How songs are decoded and embedded; the defaults are the service's."""

    weights: Path
    device: str = "auto"
    batch_segments: int = 0  # 0: what suits the device
    actors: int = 1  # networks in memory; those that are more than the GPUs share them
    shard_songs: int = 256  # songs in one Parquet file, those that fail among them
    audio_limits: AudioLimits = field(default_factory=AudioLimits)
    decode_timeout_s: float = 60.0
    decode_memory_bytes: int = 1 << 30


def extract(
    manifest: Path,
    audio: str,
    out: Path,
    config: ExtractConfig,
    *,
    retry_failures: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Embed every song of a manifest that is not embedded yet; the summary of all.

    manifest : a folder with train.parquet, val.parquet and test.parquet, or one table of id, score_streams,
               score_likes, platform and, for task full, the aesthetic scores
    audio    : a folder, or a URL that fsspec reads, where a song is the one file of audio named `{id}.*`
    out      : rows go to out/{split}/part-*.parquet, what could not be embedded to out/failures.parquet
    Raises DataError for a manifest or an `out` that cannot be used, WeightsError for the weights, DeviceError for a
    device that is not there.
    """
    songs = read_manifest(manifest)
    depends_on = provenance(config.weights)
    if not os.environ.get("RAY_ADDRESS"):  # a cluster may have what this machine has not
        resolve_device(config.device)
    _check_version(out)
    files = find_audio(audio)
    dim, full = load_head(config.weights / "apex").config.input_dim, any(STRUCTURE in song.about for song in songs)
    output = OutputFolder(out)
    output.delete_abandoned()
    catalogue = Catalogue(
        str(manifest),
        output,
        NamedFiles(files.system),
        EmbeddingRows(dim, full, depends_on),
        kind="embeddings",
        provenance=depends_on,
        model_version=model_version(config.weights),
        load_scorer=partial(Scorer.load, config.weights, device=config.device, batch_segments=config.batch_segments),
        open_decoder=partial(temporary_decoder, config),
        bucket_tracks=config.shard_songs,
        uri_identity=lambda _: "",  # files may be added, or come from elsewhere
        retry_failures=retry_failures,
    )
    summary = run(_located(songs, files), catalogue, Slots(config.device, config.actors), on_progress)
    if summary.n_failed or (out / FAILURES).exists():
        write_failures(out)
    return summary


def read_manifest(path: Path) -> list[Track]:
    """The songs of a manifest, a group a split, with their labels and no URI.

    Raises DataError naming file, column and row, also for a song in two splits.
    """
    files = [path / f"{split}.parquet" for split in SPLITS] if path.is_dir() else [path]
    songs: list[Track] = []
    seen: dict[str, str] = {}
    for file in files:
        for row, song in enumerate(_songs(read_table(file), file.stem)):
            if seen.setdefault(song.id, song.group) != song.group:
                raise cell_error(file, ID, row, f"{song.id!r} is in the split {seen[song.id]!r} too")
            songs.append(song)
    return songs


def _songs(table: Table, split: str) -> list[Track]:
    ids = table.keys(ID)
    columns: dict[str, Any] = {name: table.numbers(name, *SCORE_RANGES[name]).tolist() for name in COUNTS}
    columns[PLATFORM] = table.texts(PLATFORM)
    if aesthetics := aesthetic_scores(table):
        rows = np.stack([*aesthetics.values()], axis=1).tolist()
        columns[STRUCTURE] = [dict(zip(aesthetics, row, strict=True)) for row in rows]
    labels = [{name: values[row] for name, values in columns.items()} for row in range(len(ids))]
    return [Track(key, "", about, split) for key, about in zip(ids, labels, strict=True)]


def _located(songs: Sequence[Track], files: AudioFiles) -> Iterator[Track]:
    """The songs with the paths of all files that have their names."""
    for song in songs:
        yield Track(song.id, BETWEEN.join(files.named(song.id)), song.about, song.group)


def _check_version(out: Path) -> None:
    if not (out / PROVENANCE).exists() and any(out.glob("*/part-*.parquet")):
        raise DataError(f"{out}: was begun by an earlier version of this program; choose another --out")


@dataclass(frozen=True)
class NamedFiles:
    """Opens the one file of audio among those that have the name of a song, in a file system of fsspec."""

    system: Any

    def open(self, uri: str) -> BinaryIO:
        if not uri:
            raise AudioMissing("there is no file named by the song's id")
        path = choose_audio(self.system, uri.split(BETWEEN))
        if is_local(self.system):
            return open_regular(Path(path))
        with tempfile.NamedTemporaryFile() as copy:
            self.system.get_file(path, copy.name)
            return open_regular(Path(copy.name))


@dataclass(frozen=True)
class EmbeddingRows:
    """A row a segment in the reference's layout; songs that have failed stand in the footer."""

    dim: int
    full: bool
    provenance: Mapping[str, Any]
    needs_vectors: bool = True

    def table(self, outcomes: Sequence[Outcome], card: ModelCard) -> pa.Table:  # noqa: ARG002
        layout = schema(self.dim, full=self.full, provenance=self.provenance)
        embedded = [(outcome.track, outcome.vectors) for outcome in outcomes if outcome.vectors is not None]
        rows = [
            {SONG: song.id, SEGMENT: f"{song.id}_{number}", **song.about}
            for song, vectors in embedded
            for number in range(1, len(vectors) + 1)
        ]
        columns = {name: pa.array([row.get(name) for row in rows], layout.field(name).type) for name in layout.names}
        values = np.concatenate([np.empty((0, self.dim), np.float32), *(vectors for _, vectors in embedded)])
        columns[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), self.dim)
        failed = [_failure(outcome) for outcome in outcomes if outcome.code]
        metadata = {**(layout.metadata or {}), FAILURES_KEY: json.dumps(failed).encode()}
        return pa.table(columns, schema=layout.with_metadata(metadata))

    def finished(self, table: pa.Table) -> Sequence[str]:
        ids: list[str] = table.column(SONG).to_pylist()
        return ids


def _failure(outcome: Outcome) -> dict[str, str | None]:
    return {ID: outcome.track.id, "split": outcome.track.group, "code": outcome.code, "detail": outcome.detail}


def write_failures(out: Path) -> None:
    """Gather the failures of all files of an extraction into one table."""
    with atomic_write(out / FAILURES, durable=True) as unfinished, pq.ParquetWriter(unfinished, FAILURE_SCHEMA) as file:
        for part in sorted(out.glob("*/part-*.parquet")):
            failed = json.loads((open_parquet(part).schema_arrow.metadata or {}).get(FAILURES_KEY, b"[]"))
            file.write_table(pa.Table.from_pylist(failed, FAILURE_SCHEMA))
