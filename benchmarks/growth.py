"""(d) How cost grows with the length of a track. Memory is that of the scoring process above the loaded model."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.timing import cost_of
from model.audio import synthesizer
from model.audio.decoder import Decoder
from model.domain import AudioLimits
from model.inference.scorer import Scorer

RATE_HZ = 44_100


def run(weights_dir: Path, cache_dir: Path, durations_s: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each length."""
    scorer = Scorer.load(weights_dir, device="cpu", cache_dir=cache_dir)
    loaded = resident_mb("VmRSS")
    scorer.warm_up()
    with tempfile.TemporaryDirectory() as folder, Decoder(AudioLimits(), scratch_dir=Path(folder)) as decoder:
        return [_row(seconds, Path(folder), decoder, scorer, loaded) for seconds in track(durations_s, "lengths")]


def _row(seconds: int, folder: Path, decoder: Decoder, scorer: Scorer, loaded_mb: float) -> dict[str, Any]:
    piece = synthesizer.synthesise(duration_s=10, sample_rate_hz=RATE_HZ)
    synthesizer.write_wav(folder / "track.wav", np.tile(piece, (-(-seconds // 10), 1))[: seconds * RATE_HZ], RATE_HZ)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on

    def score() -> None:
        with decoder.decode(folder / "track.wav") as decoded:
            scorer.score(decoded.segments())

    cost = cost_of(score)
    return {
        "duration_s": seconds,
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "cpu_s_per_segment": cost.cpu_s / -(-seconds // 30),
        "peak_above_model_mb": resident_mb("VmHWM") - loaded_mb,
    }


def resident_mb(field: str) -> float:
    """A figure about this process's memory: VmRSS now, VmHWM at its highest."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024
