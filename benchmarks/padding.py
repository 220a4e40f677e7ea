"""(f) What tracks cost whose last segment is not full: their padding left out, beside all of it computed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import interleaved
from model.audio.pcm import Samples
from model.audio.synthesizer import synthesise
from model.domain import SAMPLE_RATE_HZ, SEGMENT_S, SEGMENT_SAMPLES
from model.inference.scorer import Scorer
from model.processors import usable_cores

FULL_S = float(SEGMENT_S)
#: One segment, a clip, a preview, and songs of about three minutes, whose last segments are short, full and middling.
DURATIONS_S = (FULL_S, 10.0, 30.03, 162.5, 180.0, 197.5)


def run(weights_dir: Path, cache_dir: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each duration: cost both ways, what is saved, and the cost in full segments."""
    torch.set_num_threads(usable_cores())
    scorer = Scorer.load(weights_dir, device="cpu", precision="fp32", cache_dir=cache_dir)
    music = synthesise(duration_s=SEGMENT_S, sample_rate_hz=SAMPLE_RATE_HZ).mean(axis=1, dtype=np.float32)
    works: dict[str, Callable[[], Any]] = {}
    for duration_s in DURATIONS_S:
        segments = cut(music[:SEGMENT_SAMPLES], duration_s)
        works[f"{duration_s:g} left out"] = partial(scorer.embed, segments)
        works[f"{duration_s:g} computed"] = partial(scorer.embed, [padded(segment) for segment in segments])
    costs = interleaved(works, rounds)
    full_s = costs[f"{FULL_S:g} computed"].wall_s
    return [
        {
            "duration_s": duration_s,
            "computed_s": (computed := costs[f"{duration_s:g} computed"].wall_s),
            "left_out_s": (left_out := costs[f"{duration_s:g} left out"].wall_s),
            "ratio": left_out / computed,
            "full_segments": left_out / full_s,
        }
        for duration_s in DURATIONS_S
    ]


def cut(segment: Samples, duration_s: float) -> list[Samples]:
    """The segments of a track that repeats this one: all full but the last, which is as short as its sound."""
    n_samples = round(duration_s * SAMPLE_RATE_HZ)
    n_full, n_left = divmod(n_samples, SEGMENT_SAMPLES)
    return [segment] * n_full + ([segment[:n_left]] if n_left else [])


def padded(segment: Samples) -> Samples:
    return np.pad(segment, (0, SEGMENT_SAMPLES - len(segment)))
