"""A run folder holds what training was, can be taken up again, and is served as it is."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.domain import TASK_SCORES, ApexError
from model.networks.head_formats import HEAD_FILE, load_head, save_head
from model.training.run import METRICS, RESULT, train
from model.training.tables import DataError
from model.training.trainer import Record, TrainConfig
from tests.model.synthetic import rows, write_split, write_splits

CONFIG = TrainConfig(epochs=3, batch_size=64, learning_rate=3e-3)


class Killed(BaseException):
    """Stands for a process that ends at once."""


def killed_after(n_epochs: int):  # type: ignore[no-untyped-def]
    def on_progress(epoch: int, done: int, _total: int, record: Record | None) -> None:
        if record is None and epoch == n_epochs + 1 and done == 2:
            raise Killed

    return on_progress


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("emb"), 200)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(data, out, CONFIG)
    return out


def test_the_folder_holds_config_metrics_curves_and_events(run: Path) -> None:
    assert json.loads((run / "config.json").read_text())["loss"] == "uncertainty"
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert set(lines[0]["sigma"]) == set(lines[0]["weight"]) == set(TASK_SCORES["full"])
    assert all((run / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in ("curves", "tasks", "sigmas"))
    events = EventAccumulator(str(run)).Reload()
    assert [event.step for event in events.Scalars("val_loss")] == [1, 2, 3]
    assert not (run / ".packed").exists(), "the copy of the embeddings is gone"


def test_the_head_is_that_of_the_best_epoch_and_round_trips_bit_by_bit(run: Path, tmp_path: Path) -> None:
    loaded, result = load_head(run), json.loads((run / RESULT).read_text())
    assert loaded.info["epoch"] == result["best_epoch"]
    assert loaded.info["val_loss"] == result["val_loss"]
    save_head(tmp_path / "again.safetensors", loaded.head, loaded.layer_mix, loaded.info)
    assert (tmp_path / "again.safetensors").read_bytes() == (run / "apex.safetensors").read_bytes()
    tensors = load_file(run / "apex.safetensors")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in loaded.head.state_dict().items())


@pytest.mark.parametrize("n_epochs", [0, 1, 2])
def test_a_killed_run_ends_as_if_it_had_not_been(data: Path, run: Path, tmp_path: Path, n_epochs: int) -> None:
    with pytest.raises(Killed):
        train(data, tmp_path / "run", CONFIG, on_progress=killed_after(n_epochs))
    train(data, tmp_path / "run", CONFIG)
    for name in (METRICS, RESULT, "apex.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes(), name


def test_a_run_that_is_over_is_not_trained_again(data: Path, run: Path) -> None:
    before = (run / "apex.safetensors").stat().st_mtime_ns
    assert train(data, run, CONFIG)["epochs"] == 3
    assert (run / "apex.safetensors").stat().st_mtime_ns == before


def test_the_folder_of_another_run_is_refused_by_the_setting_that_differs(data: Path, run: Path) -> None:
    with pytest.raises(DataError, match="this folder holds another run: task is 'full', not 'popularity'"):
        train(data, run, TrainConfig(epochs=3, batch_size=64, learning_rate=3e-3, task="popularity"))


def test_embeddings_that_have_changed_since_are_not_taken_for_those_of_the_run(tmp_path: Path) -> None:
    data, config = write_splits(tmp_path / "emb", 40), TrainConfig(epochs=1)
    train(data, tmp_path / "run", config)
    write_split(data / "val", rows(10, seed=7))
    with pytest.raises(DataError, match="the embeddings in .*emb have changed since"):
        train(data, tmp_path / "run", config)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", b"{", "config.json: cannot be used: JSONDecodeError"),
        ("checkpoint.pt", b"rubbish", "checkpoint.pt: cannot be used"),
        (HEAD_FILE, None, "the run is finished, but its apex.safetensors is missing"),
    ],
)
def test_a_damaged_run_folder_is_refused_by_its_file(
    data: Path, run: Path, tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    damaged = shutil.copytree(run, tmp_path / "run")
    if content is None:
        (damaged / name).unlink()
    else:
        (damaged / RESULT).unlink()
        (damaged / name).write_bytes(content)
    with pytest.raises(ApexError, match=sentence):
        train(data, damaged, CONFIG)


def test_a_song_in_two_splits_stops_training(data: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "train", rows(20))
    write_split(tmp_path / "val", rows(3))
    with pytest.raises(
        DataError, match=r"val/part-000001.parquet: column 'audio_id', row 1: .* is in another split too"
    ):
        train(tmp_path, tmp_path / "run", CONFIG)


def test_splits_of_unequal_width_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path / "train", rows(20))
    write_split(tmp_path / "val", rows(3, seed=1, dim=8))
    with pytest.raises(
        DataError, match="val/part-000001.parquet: column 'segment_embedding', row 1: has 8 values, not 16"
    ):
        train(tmp_path, tmp_path / "run", CONFIG)
