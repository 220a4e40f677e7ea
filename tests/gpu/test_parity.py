"""Every precision against float64 and against the engine of the CPU, in batches of every size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.audio.pcm import Samples
from model.domain import SAMPLE_RATE_HZ, SCORE_TOLERANCES, SEGMENT_SAMPLES
from model.inference.engines.torch import BATCHES, TorchEngine
from model.inference.scorer import Scorer
from model.networks.mert import EncoderSource
from model.training.trainer import TrainConfig, Trainer
from tests.gpu.conftest import DEVICE
from tests.model import reference
from tests.model.conftest import make_track
from tests.model.inference.signals import FIDELITY, noise, relative_error, segments_of
from tests.model.synthetic import packed, rows

pytestmark = pytest.mark.gpu

RATE_HZ = 44_100
DURATIONS_S = (0.1, 0.5, 4, 9.5, 17, 24.9, 27, 30)
#: Largest relative error of the pooled states of noise.
ERRORS = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 2e-2, "fp16": 5e-3}


def sounds() -> list[Samples]:
    """Segments that end after so many seconds, in noise."""
    return [noise(1, int(duration_s * SAMPLE_RATE_HZ))[0] for duration_s in DURATIONS_S]


def padded(segment: Samples) -> Samples:
    return np.pad(segment, (0, SEGMENT_SAMPLES - len(segment)))


@pytest.mark.parametrize("precision", ERRORS)
def test_pooled_states_are_near_those_of_the_cpu(encoder: EncoderSource, on_cpu: TorchEngine, precision: str) -> None:
    engine = TorchEngine(encoder, device=DEVICE, precision=precision)
    assert relative_error(engine.embed(noise(3)), on_cpu.embed(noise(3))) < ERRORS[precision]


def test_graphs_that_share_memory_give_what_each_gave_before(on_cuda: TorchEngine) -> None:
    """Each shape has a graph of its own, and all write into the same memory."""
    batches: list[list[Samples]] = [list(noise(1)), list(noise(6)), sounds()[3:5]]
    first = [on_cuda.embed(batch) for batch in batches]
    for _ in range(2):
        for batch, states in zip(batches, first, strict=True):
            assert relative_error(on_cuda.embed(batch), states) < 1e-6


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # what the compiler says of torch's own parts
@pytest.mark.parametrize("precision", ERRORS)
def test_compiled_graphs_are_near_the_cpu_too(encoder: EncoderSource, on_cpu: TorchEngine, precision: str) -> None:
    engine = TorchEngine(encoder, device=DEVICE, precision=precision, compiled=True)
    for _ in range(3):  # compiled, captured, replayed
        assert relative_error(engine.embed(noise(2)), on_cpu.embed(noise(2))) < ERRORS[precision]


@pytest.mark.parametrize("precision", ERRORS)
def test_fp32_stays_exact_beside_an_engine_of_another_precision(
    encoder: EncoderSource, on_cpu: TorchEngine, on_cuda: TorchEngine, precision: str
) -> None:
    expected = on_cpu.embed(noise(1))
    for engine in (on_cuda, TorchEngine(encoder, device=DEVICE, precision=precision), on_cuda):
        found = engine.embed(noise(1))
    assert relative_error(found, expected) < ERRORS["fp32"]


@pytest.mark.parametrize("duration_s", [0.5, 6.0, 22.0, 36.0])  # the last segment is mostly padding: the hardest
@pytest.mark.parametrize("precision", ERRORS)
def test_scores_are_those_of_exact_arithmetic(tiny_weights: Path, precision: str, duration_s: float) -> None:
    track = make_track(duration_s, RATE_HZ, channels=2)
    expected = reference.scores(track, RATE_HZ, tiny_weights, torch.float64)
    scorer = Scorer.load(tiny_weights, device=DEVICE, precision=precision)
    found = scorer.score(segments_of(track, RATE_HZ))
    assert scorer.card.precision in (precision, "fp32")  # fp32 where the probe has refused the other
    for name, score in found.items():
        allowed = FIDELITY if scorer.card.precision == "fp32" else SCORE_TOLERANCES[name]
        assert score == pytest.approx(expected[name], abs=allowed), name


@pytest.mark.parametrize("precision", ERRORS)
def test_segments_whose_padding_is_left_out_are_near_those_of_the_cpu(
    encoder: EncoderSource, on_cpu: TorchEngine, precision: str
) -> None:
    engine, segments = TorchEngine(encoder, device=DEVICE, precision=precision), sounds()
    found, expected = engine.embed(segments), on_cpu.embed(map(padded, segments))
    for duration_s, state, exact in zip(DURATIONS_S, found, expected, strict=True):
        assert relative_error(state, exact) < ERRORS[precision], duration_s


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_compiled_graphs_leave_padding_out_too(encoder: EncoderSource, on_cpu: TorchEngine) -> None:
    engine, segments = TorchEngine(encoder, device=DEVICE, compiled=True), [sounds()[2]] * 2
    for _ in range(3):
        assert relative_error(engine.embed(segments), on_cpu.embed(segments)) < ERRORS["fp32"]


def test_segments_of_all_lengths_are_the_same_whatever_their_batches(on_cuda: TorchEngine) -> None:
    segments = [*sounds(), *sounds()]
    alone = np.concatenate([on_cuda.embed([segment]) for segment in segments])
    assert relative_error(on_cuda.embed(segments), alone) < ERRORS["fp32"]


@pytest.mark.parametrize("n_segments", [*BATCHES["cuda"], 23])
def test_a_segment_is_the_same_in_a_batch_of_any_size(on_cuda: TorchEngine, n_segments: int) -> None:
    batch = noise(n_segments)
    alone = np.concatenate([on_cuda.embed(segment[None]) for segment in batch])
    assert relative_error(on_cuda.embed(batch), alone) < ERRORS["fp32"]


def test_training_comes_to_the_losses_of_the_cpu(tmp_path: Path) -> None:
    train, val = (packed(tmp_path / name, rows(size, seed=size)) for name, size in {"train": 600, "val": 200}.items())
    config = TrainConfig(epochs=6, batch_size=64, learning_rate=3e-3)
    on_cpu, on_cuda = Trainer(config, train, val), Trainer(config, train, val, DEVICE)
    for trainer in (on_cpu, on_cuda):
        trainer.run_epoch()
    assert on_cuda.history[0]["val_loss"] == pytest.approx(on_cpu.history[0]["val_loss"], rel=0.2)
