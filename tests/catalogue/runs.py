"""Runs of `apex catalogue score` over a small catalogue, and what they leave."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import obstore

from app.core.storage.location import parse_location
from app.core.storage.object_store import connect
from model.audio.synthesizer import synthesise, write_wav

RATE_HZ = 16_000
#: Tracks in a file of results: few, so that there are many moments between files.
BUCKET_TRACKS = 2


def make_catalogue(folder: Path, n_tracks: int) -> Path:
    """A folder of short tracks, one of which is no audio."""
    folder.mkdir(parents=True)
    for number in range(n_tracks - 1):
        write_wav(
            folder / f"{number:04d}.wav", synthesise(duration_s=1.5, sample_rate_hz=RATE_HZ, seed=number), RATE_HZ
        )
    (folder / "broken.wav").write_bytes(b"RIFFnothing")
    return folder


def command(manifest: str, out: str, *flags: str) -> list[str]:
    sizes = ["--bucket-tracks", str(BUCKET_TRACKS), "--allow-failures", "1"]
    return [sys.executable, "-m", "app.cli", "catalogue", "score", manifest, "--out", out, *sizes, *flags]


def environment(weights: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "APEX_WEIGHTS_DIR": str(weights), "APEX_DEVICE": "cpu", **(more or {})}


def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Run to the end. Raises `RuntimeError` with the end of the log where it fails."""
    with log.open("ab") as file:
        status = subprocess.run(command, env=environment, stdout=file, stderr=file).returncode
    if status:
        raise RuntimeError(f"exit status {status}\n{log.read_text(errors='replace')[-3_000:]}")


def digests(out: str) -> dict[str, str]:
    """The hash of each file of a finished output, be it a folder or a prefix."""
    if "://" not in out:
        return {path.name: _hash(path.read_bytes()) for path in Path(out).glob("[!.]*")}
    store = connect(parse_location(out), 30)
    names = [found["path"] for objects in obstore.list(store) for found in objects]
    return {name: _hash(bytes(obstore.get(store, name).bytes())) for name in names}


def n_parts(out: Path) -> int:
    return len(list(out.glob("part-*.parquet")))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
