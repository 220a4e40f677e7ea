"""(a) Seconds a segment: our engines beside the reference's loop, on the same weights in the same process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines.reference_loop import Loop
from benchmarks.timing import interleaved
from model.inference.engines.selection import open_engine
from model.inference.engines.torch import TorchEngine
from model.inference.precision import probe
from model.inference.scorer import Scorer
from model.networks.mert import EncoderSource
from model.processors import usable_cores

BASELINE = "loop, SDPA"
Embed = Callable[[], NDArray[np.float32]]


def run(weights_dir: Path, cache_dir: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each way to embed one segment of music: cost, ratio to the loop, error, and how far scores move."""
    torch.set_num_threads(usable_cores())
    segment = probe()[0]
    works = {**_loops(weights_dir, segment), **_engines(weights_dir, cache_dir, segment)}
    exact = works[BASELINE]()
    found = {name: work() for name, work in works.items()}
    costs = interleaved(works, rounds)
    scores_of = Loop(weights_dir).scores_of
    return [
        {
            "way": name,
            "wall_s": cost.wall_s,
            "cpu_s": cost.cpu_s,
            "wall_ratio": cost.wall_s / costs[BASELINE].wall_s,
            "cpu_ratio": cost.cpu_s / costs[BASELINE].cpu_s,
            "error": float(np.linalg.norm(found[name] - exact) / np.linalg.norm(exact)),
            "score_moves": _moves(scores_of(torch.from_numpy(found[name])), scores_of(torch.from_numpy(exact))),
        }
        for name, cost in costs.items()
    ]


def _loops(weights_dir: Path, segment: NDArray[np.float32]) -> dict[str, Embed]:
    samples = torch.from_numpy(segment)
    loops = {"loop, eager": Loop(weights_dir, "eager"), BASELINE: Loop(weights_dir, "sdpa")}
    return {name: partial(_loop_embedding, loop, samples) for name, loop in loops.items()}


def _loop_embedding(loop: Loop, samples: torch.Tensor) -> NDArray[np.float32]:
    embedding: NDArray[np.float32] = loop.embedding(samples).numpy()
    return embedding


def _engines(weights_dir: Path, cache_dir: Path, segment: NDArray[np.float32]) -> dict[str, Embed]:
    encoder = EncoderSource(weights_dir / "mert", f"benchmark {weights_dir.resolve()}")
    card = Scorer.load(weights_dir, device="cpu", cache_dir=cache_dir)
    openvino = {
        f"OpenVINO {precision}": open_engine(
            encoder, device="cpu", engine="openvino", precision=precision, cache_dir=cache_dir
        )
        for precision in ("fp32", "bf16")
    }
    engines = {"torch fp32": TorchEngine(encoder), **openvino}
    scorers = {name: Scorer(engine, card._head, card.card) for name, engine in engines.items()}
    return {name: partial(_engine_embedding, scorer, segment) for name, scorer in scorers.items()}


def _engine_embedding(scorer: Scorer, segment: NDArray[np.float32]) -> NDArray[np.float32]:
    embedding: NDArray[np.float32] = scorer.embed([segment])[0]
    return embedding


def _moves(found: dict[str, float], exact: dict[str, float]) -> dict[str, float]:
    return {name: abs(found[name] - exact[name]) for name in exact}
