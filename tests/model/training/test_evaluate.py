"""An evaluation says how good a head is, and whether it was worth training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from model.domain import TASK_SCORES, WeightsError
from model.networks.checkpoint import read_tensors
from model.networks.head import ApexHead, HeadConfig
from model.networks.head_formats import load_head
from model.training.baselines import Ridge
from model.training.evaluate import evaluate, figures, report, write
from model.training.metrics import MEASURES
from model.training.run import train
from model.training.tables import DataError
from model.training.trainer import TrainConfig
from tests.model.synthetic import packed, rows, write_split, write_splits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("emb"), 600, n_segments=2)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(data, out, TrainConfig(epochs=6, batch_size=64, learning_rate=3e-3))
    return out


def without_nan(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def test_the_json_has_every_measure_of_every_task_with_its_interval(data: Path, run: Path, tmp_path: Path) -> None:
    write(evaluate(run, data / "test", train=data / "train", val=data / "val", n_resamples=50), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=without_nan)
    assert list(metrics["tasks"]) == list(TASK_SCORES["full"])
    for task in metrics["tasks"].values():
        for name in MEASURES:
            assert task[f"{name}_ci95"][0] <= task[name] <= task[f"{name}_ci95"][1]
    assert set(metrics["platforms"]) == {"suno", "udio"}
    assert metrics["baselines"]["mean"]["clarity"]["pearson"] is None


def test_the_report_has_baselines_plots_and_extremes_and_asks_nobody_for_more(
    data: Path, run: Path, tmp_path: Path
) -> None:
    write(evaluate(run, data / "test", train=data / "train", n_resamples=20), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "score_likes: ridge (λ = " in page
    assert "The head has the lower MSE than mean in 7 of 7 tasks" in page
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page
    assert "Highest and lowest by naturalness" in page


def test_the_references_checkpoint_gives_the_same_metrics(data: Path, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    torch.save({"model_state": read_tensors(run / "apex.safetensors"), "loss": "uncertainty", "epoch": 3}, path)
    ours, theirs = (evaluate(head, data / "test", n_resamples=10).as_json() for head in (run, path))
    assert ours["tasks"] == theirs["tasks"]
    assert ours["platforms"] == theirs["platforms"]


def test_a_popularity_head_is_evaluated_without_aesthetic_columns(tmp_path: Path) -> None:
    head = ApexHead(HeadConfig("popularity", 16))
    checkpoint = {"model_state": head.state_dict(), "task": "popularity", "shared": 2, "mode": "segment"}
    torch.save(checkpoint, tmp_path / "best_model.pt")
    data = write_split(tmp_path / "test", rows(40, n_segments=2, full=False))
    assert list(evaluate(tmp_path, data, n_resamples=10).as_json()["tasks"]) == ["score_streams", "score_likes"]


def test_a_checkpoint_of_another_task_than_it_says_is_refused_in_a_sentence(tmp_path: Path) -> None:
    torch.save({"model_state": ApexHead(HeadConfig("full", 16)).state_dict(), "task": "popularity"}, tmp_path / "a.pt")
    with pytest.raises(
        WeightsError, match="a.pt: says that its task is 'popularity', but holds the branches of task 'full'"
    ):
        load_head(tmp_path / "a.pt")


def test_a_report_without_a_training_split_does_not_say_that_the_songs_are_new(data: Path, run: Path) -> None:
    alone, beside = (evaluate(run, data / "test", train=train, n_resamples=10) for train in (None, data / "train"))
    assert "not compared with the training split" in report(alone, figures(alone)).html()
    assert "none of them in the training split" in report(beside, figures(beside)).html()


def test_data_that_do_not_fit_the_head_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column 'songeval_scores', which task full asks for"):
        evaluate(run, write_split(tmp_path / "popularity", rows(9, full=False)))
    with pytest.raises(DataError, match="column 'segment_embedding', row 1: has 8 values, but .* takes 16"):
        evaluate(run, write_split(tmp_path / "narrow", rows(9, dim=8)))
    with pytest.raises(DataError, match="is in another split too"):
        evaluate(run, data / "train", train=data / "train", n_resamples=10)


def test_ridge_is_scikit_learns_on_standardised_embeddings(tmp_path: Path) -> None:
    train_split, test = packed(tmp_path / "a", rows(300)), packed(tmp_path / "b", rows(50, seed=1))
    x = np.array(train_split.vectors, np.float64)
    center, scale = x.mean(axis=0), x.std(axis=0)
    reference = SklearnRidge(alpha=7.0).fit((x - center) / scale, train_split.songs.targets)
    expected = reference.predict((np.array(test.vectors, np.float64) - center) / scale)
    assert Ridge(train_split).predict(test, 7.0) == pytest.approx(expected, rel=1e-6)


def test_ridge_takes_the_penalty_that_serves_the_validation_songs(tmp_path: Path) -> None:
    few, val = packed(tmp_path / "a", rows(24)), packed(tmp_path / "b", rows(200, seed=1))
    ridge = Ridge(few)
    best = ridge.best_penalty(val)
    errors = {p: np.square(ridge.predict(val, p) - val.songs.targets).sum() for p in (1e-2, best, 1e6)}
    assert errors[best] == min(errors.values())


def test_a_head_file_of_any_name_is_known_by_its_suffix(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes((run / "apex.safetensors").read_bytes())
    assert load_head(tmp_path / "mine.safetensors").info == load_head(run).info
