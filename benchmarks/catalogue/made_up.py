"""Makes a small catalogue to try commands with: python -m benchmarks.catalogue FOLDER [N_TRACKS]

Synthesised tracks as FOLDER/audio/*.wav, counts.csv with made-up counts, and battles.parquet with made-up battles
between the tracks. It is there to show the commands: forty tracks teach a network nothing.
"""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.audio.synthesizer import synthesise, write_wav
from model.training.labels import AESTHETICS

SAMPLE_RATE_HZ = 16_000
N_BATTLES = 240
PLATFORMS = ("suno", "udio")


def make(folder: Path, n_tracks: int) -> None:
    """Writes the whole catalogue; the same every time."""
    rng = np.random.default_rng(0)
    ids = [f"track{number:03d}" for number in range(n_tracks)]
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(ids):
        samples = synthesise(duration_s=2.0 + number % 3, sample_rate_hz=SAMPLE_RATE_HZ, seed=number)
        write_wav(folder / "audio" / f"{name}.wav", samples, SAMPLE_RATE_HZ)
    write_counts(folder / "counts.csv", ids, rng)
    pq.write_table(battles(ids, rng), folder / "battles.parquet")


def write_counts(path: Path, ids: list[str], rng: np.random.Generator) -> None:
    """id, platform, streams, likes, artist and the five aesthetic scores."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "platform", "streams", "likes", "artist", *AESTHETICS])
        for number, name in enumerate(ids):
            counts = rng.lognormal((6, 3), 2).astype(int)
            about = [name, PLATFORMS[number % 2], *counts, f"artist{number // 3}"]
            writer.writerow([*about, *np.round(rng.uniform(2, 4.5, len(AESTHETICS)), 2)])


def battles(ids: list[str], rng: np.random.Generator) -> pa.Table:
    """Battles in Music Arena's fields; listeners prefer the later track a little more often."""
    pairs = np.array([rng.choice(len(ids), 2, replace=False) for _ in range(N_BATTLES)])
    chances = np.stack([0.45 + 0.2 * (pairs[:, 0] > pairs[:, 1]), np.full(N_BATTLES, 0.15)], axis=1)
    drawn = rng.random((N_BATTLES, 2))
    preference = np.where(drawn[:, 1] < chances[:, 1], "TIE", np.where(drawn[:, 0] < chances[:, 0], "A", "B"))
    side = {letter: [ids[number] for number in pairs[:, i]] for i, letter in enumerate("ab")}
    return pa.table(
        {
            "battle_uuid": [f"battle-{number}" for number in range(N_BATTLES)],
            "prompt": [f"a song about {number}" for number in rng.integers(80, size=N_BATTLES)],
            "is_instrumental": rng.random(N_BATTLES) < 0.4,
            **{f"system_{letter}": [f"system-{int(name[5:]) % 4}" for name in names] for letter, names in side.items()},
            **{f"audio_{letter}": [f"{name}.wav" for name in names] for letter, names in side.items()},
            "preference": preference,
        }
    )
