"""The sweep trains every condition, compares them in one table, and does nothing twice."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from model.sweep import conditions, table, write
from model.train import TrainConfig
from tests.model.catalogue import write_splits


def test_there_are_24_conditions_and_the_best_is_among_them() -> None:
    found = conditions(TrainConfig())
    assert len(found) == 24
    assert found["song-full-uncertainty-2"] == TrainConfig()


@pytest.mark.timeout(400)
def test_a_sweep_writes_one_table_and_does_not_train_again(tmp_path: Path) -> None:
    data, out = write_splits(tmp_path / "emb", 60), tmp_path / "sweep"
    command = [sys.executable, "-m", "app.cli", "sweep", str(data), "--out", str(out), "--task", "popularity"]
    command += ["--epochs", "1", "--batch-size", "32", "--device", "cpu"]
    subprocess.run(command, check=True, capture_output=True)
    rows = list(csv.reader((out / "table.csv").read_text().splitlines()))
    assert len(rows) == 1 + 12
    heads = {path: path.stat().st_mtime_ns for path in out.glob("*/apex.safetensors")}
    assert len(heads) == 12
    subprocess.run(command, check=True, capture_output=True)
    assert heads == {path: path.stat().st_mtime_ns for path in out.glob("*/apex.safetensors")}


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
