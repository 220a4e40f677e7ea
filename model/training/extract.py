"""Embed a catalogue: songs are decoded on every core in the sandbox and embedded on warm actors, by Ray Data.

The embeddings are those of the service, by the same decoder and scorer. A song in a shard is done: a run that is killed
at any moment and started again has no song missing or twice.
"""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from model.audio.pcm import segments
from model.domain import SCORE_RANGES, AudioError, AudioLimits, ModelOutputInvalid
from model.processors import usable_cores
from model.temporary import temporary_directory
from model.training.audio_files import choose_audio, find_audio, is_local
from model.training.embeddings import PLATFORM
from model.training.labels import COUNTS, ID, STRUCTURE, aesthetic_scores
from model.training.ray_session import ray_session
from model.training.shards import Outcome, ShardWriter, Song, exclusive_lock
from model.training.splits import SPLITS
from model.training.tables import Table, cell_error, read_table

#: With more songs than this, a task takes several of them, to limit Ray's overhead.
MAX_TASKS = 10_000


@dataclass(frozen=True)
class ExtractConfig:
    """How songs are decoded and embedded; the defaults are the service's."""

    weights: Path
    device: str = "auto"
    batch_segments: int = 0  # 0: what suits the device
    actors: int = 1  # networks in memory, one a GPU where there are any
    shard_songs: int = 256  # songs in one Parquet file, or fewer
    audio_limits: AudioLimits = field(default_factory=AudioLimits)
    decode_timeout_s: float = 60.0
    decode_memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class Progress:
    """The progress of an extraction in songs of its manifest, those of earlier runs included."""

    done: int
    total: int
    failures: Mapping[str, int]  # by error code

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


def extract(
    manifest: Path,
    audio: str,
    out: Path,
    config: ExtractConfig,
    *,
    retry_failures: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Embed every song of a manifest that is not embedded yet.

    manifest : a folder with train.parquet, val.parquet and test.parquet, or one table of id, score_streams,
               score_likes, platform and, for task full, the aesthetic scores
    audio    : a folder, or a URL that fsspec reads, where a song is the one file of audio named `{id}.*`
    out      : rows go to out/{split}/part-*.parquet, what could not be embedded to out/failures.parquet
    Raises DataError for a manifest or an `out` that cannot be used, WeightsError for the weights.
    """
    songs = read_manifest(manifest)
    provenance = _provenance(config)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out):
        writer = ShardWriter(out, provenance, config.shard_songs, retry_failures)
        todo = [song for song in songs if song.id not in writer.finished(song.split)]
        codes = writer.failures
        failures = Counter(codes[key] for song in songs if (key := (song.split, song.id)) in codes)
        progress = Progress(len(songs) - len(todo), len(songs), failures)
        on_progress(progress)
        with writer:
            for outcome in _outcomes(todo, audio, config):
                writer.add(outcome)
                failures.update([outcome.code] if outcome.code else [])
                progress = replace(progress, done=progress.done + 1)
                on_progress(progress)
    return progress


def read_manifest(path: Path) -> list[Song]:
    """The songs of a manifest. Raises DataError naming file, column and row, also for a song in two splits."""
    files = [path / f"{split}.parquet" for split in SPLITS] if path.is_dir() else [path]
    songs: list[Song] = []
    seen: dict[str, str] = {}
    for file in files:
        for row, song in enumerate(_songs(read_table(file), file.stem)):
            if seen.setdefault(song.id, song.split) != song.split:
                raise cell_error(file, ID, row, f"{song.id!r} is in the split {seen[song.id]!r} too")
            songs.append(song)
    return songs


def _songs(table: Table, split: str) -> list[Song]:
    ids = table.keys(ID)
    columns: dict[str, Any] = {name: table.numbers(name, *SCORE_RANGES[name]).tolist() for name in COUNTS}
    columns[PLATFORM] = table.texts(PLATFORM)
    if aesthetics := aesthetic_scores(table):
        rows = np.stack([*aesthetics.values()], axis=1).tolist()
        columns[STRUCTURE] = [dict(zip(aesthetics, row, strict=True)) for row in rows]
    return [Song(key, split, {name: values[row] for name, values in columns.items()}) for row, key in enumerate(ids)]


def _provenance(config: ExtractConfig) -> dict[str, Any]:
    """What the embeddings will depend on. Raises DeviceError for a device that is not there."""
    # Imported here: torch takes seconds, which a faulty manifest should not cost.
    from model.inference.device import resolve_device
    from model.inference.scorer import provenance

    if not os.environ.get("RAY_ADDRESS"):  # a cluster may have what this machine has not
        resolve_device(config.device)
    return provenance(config.weights)


def _outcomes(songs: list[Song], audio: str, config: ExtractConfig) -> Iterator[Outcome]:
    """The outcome of each song, in the order in which they are ready."""
    if not songs:
        return
    files = find_audio(audio)
    paths = {index: found for index, song in enumerate(songs) if (found := files.named(song.id))}
    for index, song in enumerate(songs):
        if index not in paths:
            yield Outcome(song, code="audio_missing", detail=f"there is no file named {song.id}.*")
    if paths:
        # Bytes, because the name of a file need not be text, and Ray's own columns of text must be.
        rows = [{"index": index, "paths": os.fsencode("\0".join(found))} for index, found in paths.items()]
        with ray_session() as ray:
            for row in _pipeline(ray, rows, files.system, config).iter_rows():
                yield _outcome(songs[row["index"]], row)


def _pipeline(ray: Any, rows: list[dict[str, Any]], system: Any, config: ExtractConfig) -> Any:
    """The Ray dataset: rows of paths in, rows of embeddings out. Ray slows decoding down when embedding is behind."""
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plans and statistics; the caller has a progress bar
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_TASKS))
    # An option that the actors lack keeps Ray from fusing decoding into them, where the network would wait for it.
    decoded = dataset.map(_decode, fn_args=(system, config), num_cpus=1, memory=1)
    on_gpu = config.device.startswith("cuda") or (config.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
    return decoded.map_batches(
        _Embed,
        fn_constructor_args=(config,),
        batch_size=1,
        compute=ActorPoolStrategy(size=config.actors),
        **({"num_gpus": 1} if on_gpu else {"num_cpus": 1}),
    )


def _decode(row: dict[str, Any], system: Any, config: ExtractConfig) -> dict[str, Any]:
    """A Ray task: the segments of the one file of audio among the paths as bytes, or the code of its error."""
    try:
        chosen = choose_audio(system, os.fsdecode(row["paths"]).split("\0"))
        with _opened(system, chosen) as file, _decoder(config).decode(file) as track:
            pcm = b"".join(segment.tobytes() for segment in track.segments())
    except AudioError as error:
        return {"index": row["index"], "pcm": b"", "code": error.code, "detail": str(error)}
    except OSError as error:
        return {"index": row["index"], "pcm": b"", "code": "file_unreadable", "detail": error.strerror or str(error)}
    return {"index": row["index"], "pcm": pcm, "code": "", "detail": ""}


@contextmanager
def _opened(system: Any, path: str) -> Iterator[BinaryIO]:
    """The file itself where it is local, else a copy that is gone after the block.

    Open, because the decoder follows no links; those of the operator are followed here.
    """
    if is_local(system):
        with open(path, "rb") as file:
            yield file
        return
    with temporary_directory("extract") as folder:
        system.get_file(path, str(folder / "copy"))
        with open(folder / "copy", "rb") as file:
            yield file


@cache
def _decoder(config: ExtractConfig) -> Any:
    """One for each of Ray's processes, which run many tasks; its own warm child ends with the process."""
    from model.audio.decoder import Decoder

    return Decoder.from_settings(config, scratch_dir=Path(tempfile.gettempdir()))


class _Embed:
    """A Ray actor: the two networks, warm."""

    def __init__(self, config: ExtractConfig) -> None:
        import torch

        from model.inference.scorer import Scorer

        torch.set_num_threads(max(1, usable_cores() // config.actors))  # Ray's own default is one
        self._scorer = Scorer.load(config.weights, device=config.device, batch_segments=config.batch_segments)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of one decoded song to its embeddings as bytes."""
        pcm, code, detail = (batch.pop(name)[0] for name in ("pcm", "code", "detail"))
        vectors = np.empty((0, 0), np.float32)
        try:
            if not code:
                vectors = self._scorer.embed(segments([np.frombuffer(pcm, np.float32)]))
        except (AudioError, ModelOutputInvalid) as error:
            code, detail = error.code, str(error)
        return batch | {"vectors": [vectors.tobytes()], "n": [len(vectors)], "code": [code], "detail": [detail]}


def _outcome(song: Song, row: Mapping[str, Any]) -> Outcome:
    if row["code"]:
        return Outcome(song, code=row["code"], detail=row["detail"])
    return Outcome(song, np.frombuffer(row["vectors"], np.float32).reshape(row["n"], -1))
