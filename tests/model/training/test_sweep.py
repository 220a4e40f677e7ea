"""The sweep trains every condition, compares them in one table, and does nothing twice."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.training import sweep
from model.training.sweep import conditions, table, write
from model.training.trainer import TrainConfig
from tests.model.synthetic import write_splits


def test_there_are_24_conditions_and_the_best_is_among_them() -> None:
    found = conditions(TrainConfig())
    assert len(found) == 24
    assert found["song-full-uncertainty-2"] == TrainConfig()


#: `apex` with two of the conditions; each of them all is trained in test_train.
TWO = """
from app.cli.main import main
from model.training import sweep
all_of_them = sweep.conditions
sweep.conditions = lambda *arguments: dict(list(all_of_them(*arguments).items())[:2])
main()
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_trains_its_conditions_and_writes_one_table(tmp_path: Path) -> None:
    data, out = write_splits(tmp_path / "emb", 60), tmp_path / "sweep"
    command = [sys.executable, "-c", TWO, "sweep", str(data), "--out", str(out), "--task", "popularity"]
    command += ["--epochs", "1", "--batch-size", "32", "--device", "cpu"]
    subprocess.run(command, check=True, capture_output=True)
    rows = list(csv.reader((out / "table.csv").read_text().splitlines()))
    assert len(rows) == 1 + 2
    assert len(list(out.glob("*/apex.safetensors"))) == 2
    assert (out / "spearman.png").exists()


def test_a_condition_that_is_done_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_this_process(configs: dict[str, TrainConfig], *where: Any) -> Iterator[tuple[str, Any]]:
        return ((name, sweep._train_one(name, config, *where)) for name, config in configs.items())

    base = TrainConfig(epochs=1, batch_size=32, task="popularity")
    monkeypatch.setattr(sweep, "_trained", in_this_process)  # without Ray, whose start takes longer than all the rest
    monkeypatch.setattr(sweep, "conditions", lambda *_: {"song-popularity-uncertainty-2": base})
    data, out = write_splits(tmp_path / "emb", 60), tmp_path / "sweep"
    first = sweep.sweep(data, out, base)
    head = out / "song-popularity-uncertainty-2/apex.safetensors"
    written_at = head.stat().st_mtime_ns
    assert sweep.sweep(data, out, base) == first
    assert head.stat().st_mtime_ns == written_at
    assert not (out / ".packed").exists(), "the copy of the embeddings is gone"


def test_the_table_has_the_best_popularity_first_and_json_stays_json(tmp_path: Path) -> None:
    def result(value: float | None) -> dict[str, object]:
        names = ("score_streams", "score_likes")
        tasks = {name: {"spearman": value, "spearman_ci95": [value, value]} for name in names}
        return {"tasks": tasks, "best_epoch": 1, "val_loss": 2.0}

    results = {"poor": result(0.1), "undefined": result(None), "good": result(0.5)}
    assert [row[0] for row in table(results)[1]] == ["good", "poor", "undefined"]
    write(results, tmp_path, "test")
    assert json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)["measured_on"] == "test"
    assert (tmp_path / "spearman.png").read_bytes().startswith(b"\x89PNG")
