"""The GPU campaign: rehearsed whole on a CPU, and what it keeps when a part fails, hangs or dies."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from benchmarks.gpu import campaign as campaigns
from benchmarks.gpu.campaign import campaign
from benchmarks.gpu.part import Kind, Part, Row, Setting, Task, reports
from benchmarks.gpu.record import Record
from tests.benchmarks import faulty_parts

ROOT = Path(__file__).parents[2]
PARTS = ["machine", "tests", "engine", "decode", "service", "catalogue", "host", "training"]

#: What the machine of the campaign has already, of what the service and its worker need; openvino is for CPUs.
THERE = """certifi filelock httpx huggingface-hub jinja2 numpy openvino rich safetensors torch transformers typer"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(["machine", "engine", "decode", "host", "training"], id="without processes of their own"),
        pytest.param(PARTS, id="all", marks=pytest.mark.long),  # each of its eight processes imports torch
    ],
)
def test_the_campaign_is_rehearsed_without_a_device(parts: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable, "WHEELS": str(tmp_path)}
    chosen = [flag for part in parts[1:] for flag in ("--only", part)]
    command = [str(ROOT / "benchmarks/gpu.sh"), str(tmp_path / "out"), "--rehearse", *chosen]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out/campaign.json").read_text())["parts"]
    assert list(found) == parts
    for name, part in found.items():
        assert part["rows"], name
        assert part["notes"].keys() - {Kind.NO_PACKAGE} == {Kind.REHEARSED, Kind.NO_DEVICE}, name
        assert f"## {part['title']}" in (tmp_path / "out/campaign.md").read_text()


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", tmp_path, tmp_path)


def gives(*rows: Row) -> Task:
    return Task(f"gives {len(rows)}", lambda: rows)


def fails() -> list[Row]:
    raise ValueError("no such kernel")


def test_a_task_that_fails_leaves_its_traceback_and_the_next_goes_on(setting: Setting) -> None:
    part = Part("", "", 1, lambda _: iter([Task("bad", fails), gives({"ms": 1.0})]))
    kinds = (
        [(kind, task) for kind, task, _ in found] if (found := [*reports(part, setting, time.monotonic() + 60)]) else []
    )
    assert kinds == [(Kind.FAILED, "bad"), (Kind.ROW, "gives 1"), (Kind.REHEARSED, "gives 1")]
    assert "ValueError: no such kernel" in str(found[0][2])


def test_what_was_left_out_is_said_with_its_reason(setting: Setting) -> None:
    tasks = [Task("card", list, needs_device=True), Task("server", list, needs_package="no_such_package")]
    part = Part("", "", 1, lambda _: iter([*tasks, gives()]))
    assert [kind for kind, _, _ in reports(part, setting, time.monotonic())] == [
        Kind.NO_DEVICE,
        Kind.NO_PACKAGE,
        Kind.NO_TIME,
    ]


def test_parts_that_hang_or_die_keep_their_rows_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "PRELOADED", [])
    monkeypatch.setattr(campaigns, "OVERTIME_S", 0.0)
    record = Record(tmp_path, rehearsal=False)
    campaign(faulty_parts.PARTS, Setting("cuda", tmp_path, tmp_path), record, say=lambda _: None)
    found = json.loads((tmp_path / "campaign.json").read_text())["parts"]
    assert found["hanging"]["notes"][Kind.FAILED]
    assert found["dying"]["rows"] == [{"before": "death"}]
    assert found["dying"]["notes"][Kind.FAILED] == {"process": "it ended with status 3"}
    assert found["working"]["rows"] == [{"ms": 2.0}]


def test_all_that_the_service_needs_is_there_or_carried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = names(*project["dependencies"], *extras["worker"], *extras["embedded"])
    lists = re.findall(r'^(?:serving|testing|compared)="([^"]*)"', (ROOT / "benchmarks/carry.sh").read_text(), re.M)
    assert needed <= names(*THERE.split(), *" ".join(lists).split())


def names(*requirements: str) -> set[str]:
    return {re.split(r"[^\w-]", line)[0].lower().replace("_", "-") for line in requirements}
