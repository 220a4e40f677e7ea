"""Training learns, repeats itself, and can be taken up again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from model.domain import SCORE_RANGES
from model.networks.head import ApexHead, HeadConfig
from model.training.embeddings import Packed
from model.training.metrics import Pairs
from model.training.sweep import conditions
from model.training.tables import DataError
from model.training.trainer import TrainConfig, Trainer, batches, predict
from tests.model.synthetic import packed, rows

#: Fast where the published rate would take its 50 epochs.
QUICK = TrainConfig(epochs=6, batch_size=64, learning_rate=3e-3)
#: What every condition must reach on songs that it has not seen. The noise in the targets alone allows 0.99.
SPEARMAN_BOUND = 0.7
NORM = ("running_mean", "running_var", "weight", "bias")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Packed, Packed]]:
    folder = tmp_path_factory.mktemp("splits")
    return {
        mode: (
            packed(folder / mode / "train", rows(600, seed=0, n_segments=2), mode=mode),
            packed(folder / mode / "val", rows(200, seed=1, n_segments=2), mode=mode),
        )
        for mode in ("song", "segment")
    }


def trained(config: TrainConfig, splits: dict[str, tuple[Packed, Packed]], epochs: int | None = None) -> Trainer:
    trainer = Trainer(config, *splits[config.mode])
    while not trainer.is_done and trainer.epoch != epochs:
        trainer.run_epoch()
    return trainer


@pytest.mark.parametrize("name", conditions(QUICK))
def test_every_condition_learns_a_known_relation(name: str, splits: dict[str, tuple[Packed, Packed]]) -> None:
    trainer = trained(conditions(QUICK)[name], splits)
    val = splits[trainer.config.mode][1]
    truth, predicted = val.songs.subset(trainer.config.names), predict(trainer.head, val)
    for index, task in enumerate(trainer.config.names):
        spearman = Pairs(truth[:, index].astype(np.float64), predicted[task]).measure()["spearman"]
        assert spearman is not None
        assert spearman > SPEARMAN_BOUND, f"{task} of {name}"


def test_sigma_rises_where_errors_are_large_and_falls_where_they_are_small(
    splits: dict[str, tuple[Packed, Packed]],
) -> None:
    sigmas = trained(QUICK, splits).history[-1]["sigma"]
    assert all(sigmas[name] > 1.02 for name in ("score_streams", "score_likes"))
    assert all(sigma < 0.98 for name, sigma in sigmas.items() if SCORE_RANGES[name][1] == 5)


def test_a_head_is_the_formula_of_the_paper() -> None:
    head = ApexHead(HeadConfig("popularity", 16)).eval()
    x = torch.randn(5, 16)
    tensors = head.state_dict()

    def block(prefix: str, y: torch.Tensor) -> torch.Tensor:
        y = y.double() @ tensors[f"{prefix}.0.weight"].double().T + tensors[f"{prefix}.0.bias"].double()
        mean, variance, gain, shift = (tensors[f"{prefix}.1.{name}"].double() for name in NORM)
        y = (y - mean) / torch.sqrt(variance + 1e-5) * gain + shift
        return 0.5 * y * (1 + torch.erf(y / 2**0.5))

    y = block("shared.1.block", block("shared.0.block", x))
    for name, score in head(x).items():
        branch = f"branch_{name}.branch"
        z = block(f"{branch}.1.block", block(f"{branch}.0.block", y))
        z = functional.linear(z, tensors[f"{branch}.2.weight"].double(), tensors[f"{branch}.2.bias"].double())
        assert score.double().detach() == pytest.approx((100 / (1 + torch.exp(-z[:, 0]))).detach(), rel=1e-6)


def test_the_same_seed_gives_the_same_head_and_another_seed_another(splits: dict[str, tuple[Packed, Packed]]) -> None:
    torch.random.manual_seed(1)
    first = trained(QUICK, splits, epochs=2)
    torch.random.manual_seed(2)
    again, other = trained(QUICK, splits, epochs=2), trained(replace(QUICK, seed=7), splits, epochs=2)
    assert first.history == again.history
    assert all(torch.equal(a, b) for a, b in zip(first.head.parameters(), again.head.parameters(), strict=True))
    assert first.history != other.history


def test_a_restored_trainer_goes_on_as_if_nothing_had_happened(splits: dict[str, tuple[Packed, Packed]]) -> None:
    whole, begun, restored = trained(QUICK, splits), trained(QUICK, splits, epochs=3), Trainer(QUICK, *splits["song"])
    restored.restore(begun.state())
    while not restored.is_done:
        restored.run_epoch()
    assert restored.history == whole.history
    assert restored.best_epoch == whole.best_epoch


def test_it_stops_when_the_validation_loss_no_longer_falls(splits: dict[str, tuple[Packed, Packed]]) -> None:
    config = replace(QUICK, epochs=40, patience=2, learning_rate=0.05, loss="equal")
    trainer = trained(config, splits)
    assert trainer.epoch == trainer.best_epoch + 2 < 40
    assert trainer.best["val_loss"] == min(record["val_loss"] for record in trainer.history)


@pytest.mark.parametrize("n_rows", [2, 3, 64, 65, 66, 129])
def test_no_batch_has_a_single_row_and_every_row_is_in_one(n_rows: int) -> None:
    parts = batches(np.arange(n_rows), 64)
    assert np.array_equal(np.concatenate(parts), np.arange(n_rows))
    assert min(map(len, parts)) > 1


def test_a_last_batch_of_one_row_trains(tmp_path: Path) -> None:
    train, val = packed(tmp_path / "a", rows(65)), packed(tmp_path / "b", rows(1, seed=1))
    record = Trainer(QUICK, train, val).run_epoch()
    assert np.isfinite(record["train_loss"])


def test_in_mode_segment_a_songs_prediction_is_the_mean_of_its_segments(
    splits: dict[str, tuple[Packed, Packed]],
) -> None:
    data, head = splits["segment"][1], ApexHead(HeadConfig("full", 16)).eval()
    with torch.inference_mode():
        each = head(torch.from_numpy(np.array(data.vectors)))["clarity"].double().numpy()
    assert predict(head, data)["clarity"] == pytest.approx(each.reshape(-1, 2).mean(axis=1))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss": "huber"}, "loss is 'huber', not one of"),
        ({"epochs": 0}, "epochs is 0, but must be above 0"),
        ({"weight_decay": float("nan")}, "weight_decay is nan, but must be 0 or more"),
    ],
)
def test_a_condition_that_does_not_exist_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        TrainConfig(**changes)  # type: ignore[arg-type]
