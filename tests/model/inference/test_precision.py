"""A faster precision is used where the probe's scores stay, and nowhere else."""

import logging
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from model.audio.pcm import Samples
from model.domain import SEGMENT_SAMPLES, ModelOutputInvalid, PrecisionUnavailable
from model.inference.engines.batching import length_for
from model.inference.engines.selection import Engine
from model.inference.precision import AUTO, deviations, exceeded_tolerances, probe, select_engine

EXACT_SCORES = {"score_streams": 50.0, "clarity": 3.0}


class FakeEngine:
    name, device = "fake", "cpu"

    def __init__(self, precision: str, device: str = "cpu") -> None:
        self.precision, self.device = precision, device

    def embed(self, segments: Iterable[Samples]) -> Samples:
        return np.stack(list(segments))


def moving(**moves: float) -> Callable[[Engine, Samples], dict[str, float]]:
    """Scores that move by so much in any precision but fp32."""

    def score(engine: Engine, _segment: Samples) -> dict[str, float]:
        fast = engine.precision != "fp32"
        return {name: value + fast * moves.get(name, 0.0) for name, value in EXACT_SCORES.items()}

    return score


@pytest.mark.parametrize("moves", [{}, {"score_streams": 0.19}, {"score_streams": -0.19, "clarity": 0.009}])
def test_a_precision_that_keeps_the_scores_is_used(moves: dict[str, float]) -> None:
    engine, deviations = select_engine(FakeEngine, "bf16", moving(**moves))
    assert engine.precision == "bf16"
    assert deviations == {name: pytest.approx(abs(moves.get(name, 0.0))) for name in EXACT_SCORES}


@pytest.mark.parametrize("moves", [{"score_streams": 0.21}, {"clarity": -0.011}, {"clarity": float("nan")}])
def test_a_precision_that_moves_any_score_too_far_is_refused(
    moves: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    engine, deviations = select_engine(FakeEngine, "bf16", moving(**moves))
    assert (engine.precision, deviations) == ("fp32", {})
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "not running in bf16" in record.getMessage()
    assert next(iter(moves)) in record.getMessage()


def test_a_precision_that_gives_no_numbers_is_refused() -> None:
    def score(engine: Engine, _segment: Samples) -> dict[str, float]:
        if engine.precision == "fp16":
            raise ModelOutputInvalid("not finite")
        return EXACT_SCORES

    assert select_engine(FakeEngine, "fp16", score)[0].precision == "fp32"


def test_a_segment_that_overflows_in_fp16_is_embedded_in_fp32(caplog: pytest.LogCaptureFixture) -> None:
    class Overflowing(FakeEngine):
        def embed(self, segments: Iterable[Samples]) -> Samples:
            states = super().embed(segments)
            return np.where(np.abs(states) > 2, np.inf, states + (self.precision == "fp16")).astype(np.float32)

    def open_at(precision: str) -> Engine:
        return Overflowing(precision) if precision == "fp16" else FakeEngine(precision)

    engine, _ = select_engine(open_at, "fp16", moving())
    states = engine.embed(np.array([[[1, 1]], [[1, 3]], [[2, 2]]], np.float32))
    assert states.tolist() == [[[2, 2]], [[1, 3]], [[3, 3]]]
    assert engine.precision == "fp16"
    assert "1 of 3 segments overflowed in fp16" in caplog.text


def test_a_precision_that_is_not_there_is_refused() -> None:
    def open_at(precision: str) -> Engine:
        if precision != "fp32":
            raise PrecisionUnavailable(precision)
        return FakeEngine(precision)

    assert select_engine(open_at, "tf32", moving())[0].precision == "fp32"


@pytest.mark.parametrize(
    ("device", "refused", "chosen"),
    [
        ("cuda:1", [], "fp16"),
        ("cuda", ["fp16"], "tf32"),
        ("cuda", ["fp16", "tf32"], "fp32"),
        ("cpu", [], "fp32"),
    ],
)
def test_auto_is_the_fastest_that_passes_on_the_device(device: str, refused: list[str], chosen: str) -> None:
    def open_at(precision: str) -> Engine:
        if precision in refused:
            raise PrecisionUnavailable(precision)
        return FakeEngine(precision, device)

    assert select_engine(open_at, AUTO, moving())[0].precision == chosen


def test_fp32_needs_no_probe() -> None:
    engine, deviations = select_engine(FakeEngine, "fp32", lambda *_: pytest.fail("it was probed"))
    assert (engine.precision, deviations) == ("fp32", {})


def test_the_probe_is_a_full_segment_and_one_whose_padding_is_left_out() -> None:
    full, short = probe()
    assert (len(full), len(short)) == (SEGMENT_SAMPLES, SEGMENT_SAMPLES // 4)
    assert length_for(len(short)) < SEGMENT_SAMPLES
    assert full.dtype == short.dtype == np.float32
    assert all(np.ptp(segment[-SEGMENT_SAMPLES // 10 :]) > 0.01 for segment in (full, short))


def test_the_largest_move_of_each_score_counts() -> None:
    assert deviations([{"clarity": 3.0}, {"clarity": 2.0}], [{"clarity": 3.25}, {"clarity": 1.5}]) == {"clarity": 0.5}


def test_what_is_broken_is_named_with_its_limit() -> None:
    assert exceeded_tolerances({"score_likes": 0.5, "clarity": 0.001}) == ["score_likes by 0.5, more than 0.2"]
