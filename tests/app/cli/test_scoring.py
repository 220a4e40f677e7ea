"""`apex score` shows every file and every score, on a terminal of any width."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from app.cli.scoring import print_table
from model.domain import SCORE_RANGES
from model.inference.scorer import Scorer

NAMES = ("songs/song [live].mp3", f"{'deep/' * 20}a[/b].mp3")


def shown(capsys: pytest.CaptureFixture[str], *, columns: int, patch: pytest.MonkeyPatch) -> list[str]:
    patch.setenv("COLUMNS", str(columns))
    scorer = SimpleNamespace(card=SimpleNamespace(scores=SCORE_RANGES, trained=True))
    outcomes: list[dict[str, Any]] = [
        {"file": name, "scores": dict.fromkeys(SCORE_RANGES, 100.0), "warnings": []} for name in NAMES
    ]
    outcomes[0]["warnings"].append({"code": "packets_skipped", "detail": "3 packet(s) were left out."})
    print_table([*outcomes, {"file": "bad", "error": {}}], cast(Scorer, scorer))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_each_column_has_a_whole_head_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    heads, *_ = shown(capsys, columns=columns, patch=monkeypatch)
    assert heads.split() == [name.removeprefix("score_") for name in SCORE_RANGES]


def test_a_wide_terminal_has_a_line_a_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(capsys, columns=240, patch=monkeypatch)
    assert all(name in lines[1] for name in SCORE_RANGES)
    assert all(any(name in line and line.count("100.00") == len(SCORE_RANGES) for line in lines) for name in NAMES)


@pytest.mark.parametrize("columns", [40, 60, 80, 240])
def test_a_name_and_a_value_are_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    text = "\n".join(shown(capsys, columns=columns, patch=monkeypatch))
    assert all(name in text for name in NAMES)
    assert text.count("100.00") == len(NAMES) * len(SCORE_RANGES)


def test_heads_are_folded_where_they_have_no_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(capsys, columns=60, patch=monkeypatch)[:2]
    assert max(map(len, lines)) <= 60
    columns = ("".join(line[start : start + 8].strip() for line in lines) for start in range(0, 56, 8))
    assert [*columns] == [name.removeprefix("score_") for name in SCORE_RANGES]


@pytest.mark.parametrize("columns", [40, 240])
def test_what_is_odd_about_a_file_is_said_below_the_scores(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    last = shown(capsys, columns=columns, patch=monkeypatch)[-1]
    assert last == f"{NAMES[0]}: packets_skipped: 3 packet(s) were left out."


def test_a_line_of_json_holds_the_warnings_and_the_decoder(tmp_path: Path, tiny_weights: Path) -> None:
    odd = tmp_path / "odd.wav"
    track = (0.1 * np.random.default_rng(0).standard_normal((30_000, 2))).astype(np.float32)
    soundfile.write(odd, track, 24_000)
    odd.write_bytes(odd.read_bytes() + b"what is this? " * 20)
    options = ["--weights", str(tiny_weights), "--device", "cpu", "--json"]
    command = [sys.executable, "-m", "app.cli", "score", *options, str(odd)]
    line = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [warning["code"] for warning in line["warnings"]] == ["trailing_data_ignored"]
    assert line["audio"]["decoder"] == "ffmpeg"


def test_files_of_any_name_are_scored_and_those_that_are_not_are_counted(tmp_path: Path, tiny_weights: Path) -> None:
    track = (0.1 * np.random.default_rng(0).standard_normal((30_000, 2))).astype(np.float32)
    folder = tmp_path / "a["
    folder.mkdir()
    soundfile.write(folder / "b].wav", track, 24_000)
    shutil.copyfile(folder / "b].wav", folder / "[red]x\x1b[0m.wav")
    (folder / "[bold]none.mp3").write_bytes(b"no audio")
    files = sorted(str(path) for path in folder.iterdir())
    command = [sys.executable, "-m", "app.cli", "score", "--weights", str(tiny_weights), "--device", "cpu", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{folder}/b].wav\n" in done.stdout
    assert rf"{folder}/[red]x\x1b[0m.wav" in done.stdout
    assert f"{folder}/[bold]none.mp3: unsupported_media_type" in done.stderr
    assert done.stderr.splitlines()[-1] == "1 of 3 files have no scores"
