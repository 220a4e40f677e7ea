"""Made-up catalogues whose truth is known: embeddings that say what the targets are, and battles that say why."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.domain import SCORE_RANGES
from model.training.embeddings import Packed, open_packed, pack, schema
from model.training.labels import AESTHETICS, COUNTS

DIM = 16
#: How the seven targets depend on an embedding: the same in every catalogue of a width.
NOISE = 0.1


def targets_of(vectors: NDArray[np.floating], rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """The targets of songs with these embeddings: one linear direction each, squashed, and a little noise."""
    directions = np.random.default_rng(99).standard_normal((vectors.shape[1], len(SCORE_RANGES))) / 4
    signal = vectors @ directions + NOISE * rng.standard_normal((len(vectors), len(SCORE_RANGES)))
    shares = 1 / (1 + np.exp(-1.5 * signal))
    return {name: low + (high - low) * shares[:, i] for i, (name, (low, high)) in enumerate(SCORE_RANGES.items())}


def rows(n_songs: int, *, dim: int = DIM, seed: int = 0, n_segments: int = 1, full: bool = True) -> pa.Table:
    """A split in the reference's layout. The songs of different seeds have different ids."""
    rng = np.random.default_rng(seed)
    songs = rng.standard_normal((n_songs, dim)).astype(np.float32)
    ids = [f"song{seed}-{number}" for number in range(n_songs)]
    columns: dict[str, Any] = {
        "audio_id": np.repeat(ids, n_segments),
        "segment_id": [f"{key}_{i}" for key in ids for i in range(1, n_segments + 1)],
        "platform": np.repeat(["suno" if i % 3 else "udio" for i in range(n_songs)], n_segments),
    }
    wobble = 0.2 * rng.standard_normal((n_songs, n_segments, dim)) if n_segments > 1 else np.zeros((n_songs, 1, dim))
    vectors = (songs[:, None] + wobble - wobble.mean(axis=1, keepdims=True)).astype(np.float32)
    columns["segment_embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    targets = {name: np.repeat(values, n_segments) for name, values in targets_of(songs, rng).items()}
    columns |= {name: targets[name] for name in COUNTS}
    if full:
        arrays = [pa.array(targets[name]) for name in AESTHETICS]
        columns["songeval_scores"] = pa.StructArray.from_arrays(arrays, names=list(AESTHETICS))
    layout = schema(dim, full=full)
    return pa.table({name: columns[name] for name in layout.names}).cast(layout)


def write_split(path: Path, table: pa.Table) -> Path:
    """Writes a split as one file in a folder; returns the folder."""
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path / "part-000001.parquet")
    return path


def write_splits(folder: Path, n_songs: int = 400, **choices: Any) -> Path:
    """Writes train, val and test, the latter two a quarter as large."""
    for seed, (name, size) in enumerate({"train": n_songs, "val": n_songs // 4, "test": n_songs // 4}.items()):
        write_split(folder / name, rows(size, seed=seed, **choices))
    return folder


def packed(folder: Path, table: pa.Table, *, task: str = "full", mode: str = "song") -> Packed:
    """A split that is ready for training."""
    pack(write_split(folder / "rows", table), folder / "packed", task=task, mode=mode)
    return open_packed(folder / "packed")


def battles(n_battles: int, *, seed: int = 0, says: str = "all") -> pa.Table:
    """Battles whose winner is mostly the clip with the higher quality, which scores show.

    says : which scores show it: all, only the aesthetics, or none
    """
    rng = np.random.default_rng(seed)
    strengths = np.linspace(-1, 1, 5)
    first = rng.integers(5, size=n_battles)
    second = (first + rng.integers(1, 5, size=n_battles)) % 5
    qualities = [strengths[side] + rng.standard_normal(n_battles) for side in (first, second)]
    preference = np.where(rng.random(n_battles) < 1 / (1 + np.exp(-3 * (qualities[0] - qualities[1]))), "A", "B")
    undecided = rng.random(n_battles)
    preference = np.where(undecided < 0.1, "TIE", np.where(undecided < 0.15, "BOTH_BAD", preference))
    columns: dict[str, Any] = {
        "battle_uuid": [f"battle-{number}" for number in range(n_battles)],
        "prompt": [f"prompt {number}" for number in rng.integers(n_battles // 2, size=n_battles)],
        "is_instrumental": rng.random(n_battles) < 0.4,
        "system_a": [f"system-{number}" for number in first],
        "system_b": [f"system-{number}" for number in second],
        "audio_a": [f"{number}a.mp3" for number in range(n_battles)],
        "audio_b": [f"{number}b.mp3" for number in range(n_battles)],
        "preference": preference,
    }
    shown = {"all": SCORE_RANGES, "aesthetics": AESTHETICS, "none": ()}[says]
    for name, (low, high) in SCORE_RANGES.items():
        for side, quality in zip("ab", qualities, strict=True):
            signal = (quality if name in shown else 0) + rng.standard_normal(n_battles)
            columns[f"{name}_{side}"] = low + (high - low) / (1 + np.exp(-signal))
    return pa.table(columns)
