"""Reduced precision is used only if the scores of a probe stay within tolerance."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from model.audio.pcm import Samples
from model.audio.synthesizer import synthesise
from model.domain import (
    SAMPLE_RATE_HZ,
    SCORE_TOLERANCES,
    SEGMENT_S,
    SEGMENT_SAMPLES,
    ModelOutputInvalid,
    PrecisionUnavailable,
)
from model.inference.engines.selection import Engine

log = logging.getLogger(__name__)

EXACT = "fp32"

#: Precisions that compute all or, in tf32, the attention in numbers up to 65,504, which a loud passage may exceed.
OVERFLOWING = ("fp16", "tf32")

#: Choose by the device.
AUTO = "auto"
#: What is tried on each kind of device, the fastest first: measured in docs/performance.md. bf16 is as fast as fp16,
#: and moves scores eight times as far.
FASTEST_FIRST = {"cuda": ("fp16", "tf32"), "cpu": ()}

Scores = Mapping[str, float]


def select_engine(
    open_at: Callable[[str], Engine], precision: str, score: Callable[[Engine, Samples], Scores]
) -> tuple[Engine, dict[str, float]]:
    """An engine of this precision and the deviation of each score from fp32. Where one is too large, the fp32 engine.

    open_at : opens an engine of a precision
    precision : or AUTO, the fastest on the device that moves no score too far
    score : the scores that an engine gives for a track of one segment
    """
    exact = open_at(EXACT)
    for candidate in _candidates(precision, exact.device):
        try:
            fast = open_at(candidate)
            by_score = deviations(*([score(engine, segment) for segment in probe()] for engine in (exact, fast)))
            reasons = exceeded_tolerances(by_score)
        except (PrecisionUnavailable, ModelOutputInvalid) as error:
            reasons = [str(error)]
        if not reasons:
            log.info("running in %s: deviations on the probe: %s", candidate, by_score)
            return FallbackEngine(fast, exact) if candidate in OVERFLOWING else fast, by_score
        log.warning("not running in %s: %s", candidate, "; ".join(reasons))
    return exact, {}


def _candidates(precision: str, device: str) -> Sequence[str]:
    """The precisions to try before EXACT."""
    if precision == AUTO:
        return FASTEST_FIRST[device.partition(":")[0]]
    return () if precision == EXACT else (precision,)


class FallbackEngine:
    """A fast engine; segments that it has no finite numbers for are embedded by the exact one."""

    def __init__(self, fast: Engine, exact: Engine) -> None:
        self.name, self.device, self.precision = fast.name, fast.device, fast.precision
        self._fast, self._exact = fast, exact

    def embed(self, segments: Iterable[Samples]) -> NDArray[np.float32]:
        """As the engines do."""
        segments = list(segments)
        states = self._fast.embed(segments)
        overflowed = np.array([not np.isfinite(state).all() for state in states])
        if overflowed.any():
            log.warning("%d of %d segments overflowed in %s", overflowed.sum(), len(segments), self.precision)
            states[overflowed] = self._exact.embed(list(compress(segments, overflowed)))
        return states


def probe() -> list[Samples]:
    """Two segments of synthesised music, each a track of its own: a full one, and a quarter of one.

    The second deviates more: its padded frames all round in the same direction.
    """
    music = synthesise(duration_s=SEGMENT_S, sample_rate_hz=SAMPLE_RATE_HZ, seed=1).mean(axis=1, dtype=np.float32)
    return [music[:SEGMENT_SAMPLES], music[: SEGMENT_SAMPLES // 4]]


def deviations(exact: Iterable[Scores], fast: Iterable[Scores]) -> dict[str, float]:
    """The largest difference of each score, over pairs of scores of the same audio."""
    pairs = list(zip(exact, fast, strict=True))
    return {name: round(max(abs(a[name] - b[name]) for a, b in pairs), 6) for name in pairs[0][0]}


def exceeded_tolerances(by_score: Mapping[str, float]) -> list[str]:
    """A phrase for each score whose deviation is above its tolerance, or not a number."""
    return [
        f"{name} by {by:.4g}, more than {SCORE_TOLERANCES[name]}"
        for name, by in by_score.items()
        if not by <= SCORE_TOLERANCES[name]
    ]
