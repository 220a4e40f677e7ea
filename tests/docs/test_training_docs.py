"""docs/training.md says what works: every command in it is run, on tracks made on the spot."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.catalogue.made_up import make
from model.training.run import METRICS
from tests.e2e.service import running

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/training.md").read_text()
SEQUENCE, ARENA = PAGE.split("### 6. Music Arena")
#: The pictures in the docs, and where the run leaves them.
PICTURES = {"curves.png": "run", "sigmas.png": "run", "calibration.png": "eval", "auc.png": "arena"}
#: Set to have the run replace the pictures in docs/img.
UPDATE = os.environ.get("APEX_UPDATE_DOCS")
#: `apex` whose models have few trees and little to choose from: with all of it, the arena computes for a minute.
SMALL_MODELS = """
from app.cli.main import main
from model.arena import experiment
models = experiment.models
def small():
    found = models()
    for name in ("random forest", "XGBoost", "AdaBoost"):
        found[name].set_params(n_estimators=5)
    found["SVM"].set_params(param_grid={"svc__C": [1.0]})
    return found
experiment.models = small
main()
"""


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def execute(line: str, folder: Path, apex: Sequence[str] = ("-m", "app.cli")) -> str:
    """Runs a line as a shell would, with this tree for `apex` and a twentieth of the resamples."""
    line = line if UPDATE else re.sub("^apex (evaluate|arena) .*", r"\g<0> --resamples 50", line)
    line = re.sub("^apex", lambda _: shlex.join([sys.executable, *apex]), line)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr[-3_000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every command before the arena has been run, with what `apex score` printed in printed.json."""
    folder = tmp_path_factory.mktemp("training")
    make(folder, 40)
    printed = [execute(line, folder) for line in commands(SEQUENCE)]
    (folder / "printed.json").write_text(next(text for text in printed if text.startswith('{"file"')))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_documented_sequence_leads_from_counts_to_a_served_head(folder: Path) -> None:
    metrics = json.loads((folder / "eval/metrics.json").read_text(), parse_constant=pytest.fail)
    assert len(metrics["tasks"]) == 7
    assert len((folder / "run" / METRICS).read_text().splitlines()) >= 21
    scored = json.loads((folder / "printed.json").read_text())
    with running(folder / "served", folder / "data") as service:
        job = service.score((folder / "audio/track000.wav").read_bytes())
    assert job["result"]["scores"] == pytest.approx(scored["scores"], abs=1e-3)


@pytest.mark.timeout(600)
def test_the_documented_arena_says_what_its_models_found(folder: Path) -> None:
    for line in commands(ARENA):
        execute(line, folder, *([] if UPDATE else [("-c", SMALL_MODELS)]))
    results = json.loads((folder / "arena/results.json").read_text(), parse_constant=pytest.fail)
    assert results["n_battles"] == 240
    assert len(results["models"]) == 30
    if UPDATE:
        update_pictures(folder)


def update_pictures(folder: Path) -> None:
    for name, where in PICTURES.items():
        shutil.copyfile(folder / where / name, ROOT / "docs/img" / name)


def test_every_picture_of_the_page_is_there() -> None:
    for name in re.findall(r"\]\((img/[^)]+)\)", PAGE):
        assert (ROOT / "docs" / name).is_file(), f"APEX_UPDATE_DOCS=1 makes {name}"
