"""How long training takes on this machine: python -m benchmarks.training data|full|sweep|labels FOLDER

data    makes the embeddings that the next two need; untimed
full    ten epochs of the best condition on 211,000 songs of 768 numbers
sweep   all 24 conditions on 20,000 rows of 768 numbers; interrupted, it goes on where it was, and the times add up
labels  percentiles and splits of 211,000 songs

The embeddings are random, with targets that depend on them. Prints one line of JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands do; read when torch is loaded

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.domain import SCORE_RANGES
from model.training.embeddings import schema
from model.training.labels import AESTHETICS, COUNTS, percentile_scores
from model.training.run import train
from model.training.splits import SPLITS, assign
from model.training.sweep import sweep
from model.training.trainer import TrainConfig

DIM = 768
FULL_SONGS = 211_000
SWEEP_ROWS = 20_000


def write_split(path: Path, n_songs: int, seed: int) -> None:
    """A split of songs of one segment, in row groups of 10,000."""
    path.mkdir(parents=True, exist_ok=True)
    layout = schema(DIM, full=True)
    with pq.ParquetWriter(path / "part-000001.parquet", layout) as writer:
        for start in range(0, n_songs, 10_000):
            writer.write_table(rows(start, min(10_000, n_songs - start), seed, layout))


def rows(start: int, n: int, seed: int, layout: pa.Schema) -> pa.Table:
    """Songs whose targets are squashed linear functions of their embeddings, with noise."""
    rng = np.random.default_rng((seed, start))
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    directions = np.random.default_rng(99).standard_normal((DIM, len(SCORE_RANGES))) / np.sqrt(DIM)
    shares = 1 / (1 + np.exp(-1.5 * (vectors @ directions + 0.3 * rng.standard_normal((n, len(SCORE_RANGES))))))
    targets = {name: low + (high - low) * shares[:, i] for i, (name, (low, high)) in enumerate(SCORE_RANGES.items())}
    ids = [f"song{seed}-{number}" for number in range(start, start + n)]
    columns = {"audio_id": ids, "segment_id": [f"{key}_1" for key in ids], "platform": ["suno"] * n}
    columns |= {name: targets[name] for name in COUNTS}
    columns["segment_embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    arrays = [pa.array(targets[name]) for name in AESTHETICS]
    columns["songeval_scores"] = pa.StructArray.from_arrays(arrays, names=list(AESTHETICS))
    return pa.table({name: columns[name] for name in layout.names}).cast(layout)


def data(folder: Path) -> dict[str, object]:
    """The embeddings of both sizes, in FOLDER/full-data and FOLDER/sweep-data."""
    for name, sizes in {"full": (FULL_SONGS, 10_000), "sweep": (SWEEP_ROWS, 2_000, 2_000)}.items():
        for seed, (split, n_songs) in enumerate(zip(SPLITS, sizes, strict=False)):
            write_split(folder / f"{name}-data" / split, n_songs, seed)
    return {"full_songs": FULL_SONGS, "sweep_rows": SWEEP_ROWS}


def full(folder: Path) -> dict[str, object]:
    """Ten epochs at full size, and how long reading and checking took before them."""
    times, started = [], time.monotonic()
    config = TrainConfig(epochs=10)
    result = train(
        folder / "full-data",
        folder / "run",
        config,
        on_progress=lambda *now: times.append(time.monotonic() - started) if now[3] else None,
    )
    per_epoch = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return {"seconds": times[-1], "seconds_per_epoch": float(np.median(per_epoch)), "val_loss": result["val_loss"]}


def all_conditions(folder: Path) -> dict[str, object]:
    """The whole sweep, by its defaults."""
    started = time.monotonic()
    results = sweep(folder / "sweep-data", folder / "sweep", TrainConfig(), on_progress=lambda *now: print(*now))
    worst = min(task["spearman"] for result in results.values() for task in result["tasks"].values())
    return {"seconds": time.monotonic() - started, "lowest_spearman": worst}


def labels(_folder: Path) -> dict[str, object]:
    """Percentiles and a split by artist."""
    rng = np.random.default_rng(0)
    counts, platforms = rng.lognormal(5, 2, FULL_SONGS), [("suno", "udio")[i % 2] for i in range(FULL_SONGS)]
    started = time.monotonic()
    percentile_scores(counts, platforms)
    assign([f"artist{i}" for i in rng.integers(20_000, size=FULL_SONGS)], platforms)
    return {"seconds": time.monotonic() - started}


BENCHMARKS: dict[str, Callable[[Path], dict[str, object]]] = {
    "data": data,
    "full": full,
    "sweep": all_conditions,
    "labels": labels,
}

if __name__ == "__main__":
    print(json.dumps({"benchmark": sys.argv[1], **BENCHMARKS[sys.argv[1]](Path(sys.argv[2]))}))
