"""(b) From a 3-minute file to samples at 24 kHz: our decoder beside soundfile and torchaudio's formula in PyTorch."""

import ctypes
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.baselines import reference_loop
from benchmarks.timing import interleaved
from model.audio.decoder import Decoder
from model.audio.decoder_child import decode_file
from model.audio.synthesizer import synthesise
from model.domain import AudioLimits

RATE_HZ = 44_100
TRACK_S = 180.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
FORMATS = ("mp3", "flac", "wav", "ogg")


def run(rounds: int) -> list[dict[str, Any]]:
    """Three rows for each format: ours alone, ours in its walled-in child process, and the other."""
    torch.set_num_threads(1)
    keep_memory()
    music = np.tile(synthesise(duration_s=30, sample_rate_hz=RATE_HZ), (6, 1))
    with tempfile.TemporaryDirectory() as folder, Decoder(AudioLimits(), scratch_dir=Path(folder)) as decoder:
        return [row for suffix in FORMATS for row in _rows(Path(folder) / f"track.{suffix}", music, decoder, rounds)]


def _rows(path: Path, music: np.ndarray, decoder: Decoder, rounds: int) -> list[dict[str, Any]]:
    with soundfile.SoundFile(path, "w", RATE_HZ, channels=2) as file:
        for second in music.reshape(-1, RATE_HZ, 2):  # the Vorbis encoder crashes on all of it at once
            file.write(second)
    works = {
        f"{path.suffix[1:]}: ours": lambda: _decode_here(path),
        f"{path.suffix[1:]}: ours, in a child": lambda: decoder.decode(path).close(),
        f"{path.suffix[1:]}: soundfile + PyTorch": lambda: reference_loop.front_end(path),
    }
    error = float(np.abs(_decode_here(path) - reference_loop.front_end(path).numpy()).max())
    return [
        {"way": name, "wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "largest_difference": error}
        for name, cost in interleaved(works, rounds).items()
    ]


def keep_memory() -> None:
    """What the decoding child finds in its environment, for both sides: freed memory stays with the process."""
    libc = ctypes.CDLL(None)
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        libc.mallopt(option, 64 << 20)


def _decode_here(path: Path) -> np.ndarray:
    sink = io.BytesIO()
    with path.open("rb", buffering=0) as source:
        decode_file(source, sink, AudioLimits())
    return np.frombuffer(sink.getvalue(), np.float32)
