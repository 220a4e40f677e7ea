"""The training commands explain themselves, end with one sentence, and can be interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from app.cli.commands.training.arena import keep_scored
from app.cli.errors import INTERRUPTED
from app.cli.main import app
from tests.model.synthetic import write_splits
from tests.model.training.test_labels import write_counts

COMMANDS = ("labels", "extract", "train", "sweep", "evaluate", "arena")
PYTHON = (sys.executable, "-m", "app.cli")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert all(parameter.help for parameter in command.params if parameter.name != "help")
    assert command.help.strip().endswith(".")


def test_a_fault_is_one_line_on_stderr_and_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("id,platform,streams\na,suno,3\n")
    command = [*PYTHON, "labels", str(tmp_path / "counts.csv"), "--out", str(tmp_path / "labels")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"apex: {tmp_path / 'counts.csv'}: has no column 'likes'")
    assert "Traceback" not in done.stderr


def test_a_file_in_the_way_of_the_results_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "labels").touch()
    counts = write_counts(tmp_path / "counts.csv")
    command = [*PYTHON, "labels", str(counts), "--out", str(tmp_path / "labels")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"apex: {tmp_path / 'labels'}: File exists"
    assert "Traceback" not in done.stderr


def test_scores_of_clips_are_kept_unless_another_head_gave_them(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"file": "a.wav", "version": "1"}\n{"file": "b.wav", "version": "2"}\n{"file": "c.w')
    assert keep_scored(path, "2") == {"b.wav"}
    assert path.read_text() == '{"file": "b.wav", "version": "2"}\n'
    assert keep_scored(tmp_path / "none.jsonl", "2") == set()


def test_without_the_extra_a_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from app.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "labels", "a.csv"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "'apex labels' needs the package pyarrow: pip install" in done.stderr


def test_importing_the_commands_loads_no_package_of_the_extra() -> None:
    heavy = "{'torch', 'pyarrow', 'ray', 'sklearn', 'xgboost', 'matplotlib', 'tensorboard', 'scipy', 'pandas'}"
    code = f"import sys, app.cli.main; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def _interruptible() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and the tests may run there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_training_that_is_interrupted_says_so_and_goes_on_from_there(tmp_path: Path) -> None:
    data, out = write_splits(tmp_path / "emb", 400), tmp_path / "run"
    command = [*PYTHON, "train", str(data), "--out", str(out), "--batch-size", "8", "--device", "cpu", "--epochs", "30"]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=_interruptible
    ) as process:
        while not (out / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == INTERRUPTED
    assert "the same command goes on from there" in said
    n_epochs = len((out / "metrics.jsonl").read_text().splitlines())
    assert 0 < n_epochs < 30
    assert (out / "apex.safetensors").exists()
