"""The tests that need a device, each as a row; without one they are collected and skipped."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.part import Row, Setting, Task

TESTS = "tests/gpu"
#: What the compiled tests may need; the others are run before them.
LIMIT_S = {"tests": 70, "tests of compiled graphs": 90}
CHOICES = {"tests": "not compiled", "tests of compiled graphs": "compiled"}


def tasks(setting: Setting) -> Iterator[Task]:
    for name, choice in CHOICES.items():
        limit_s = LIMIT_S[name] if setting.on_device else None
        # One run shows without a device that all of them are found.
        yield Task(name, partial(_rows, setting, choice, limit_s), needs_device=choice == "compiled")


def _rows(setting: Setting, choice: str, limit_s: int | None) -> Iterator[Row]:
    report = setting.folder / f"{choice}.xml"
    # Warnings of other versions of the libraries are no failures here, nor are plugins that do not fit this pytest.
    flags = ["-q", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-W", "default", "-m", "gpu", "--durations=15"]
    command = [sys.executable, "-m", "pytest", *flags, TESTS]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    log = setting.out / "tests.log"
    with log.open("a") as file:
        try:
            subprocess.run(
                [*command, "-k", choice, f"--junitxml={report}"],
                env=environment,
                stdout=file,
                stderr=file,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            file.write(f"\nended after {limit_s} s\n")
    if not report.exists():
        raise RuntimeError("\n".join(log.read_text(errors="replace").splitlines()[-30:]))
    yield from outcomes(report)


def outcomes(report: Path) -> Iterator[Row]:
    """A row for each test of a JUnit report."""
    for case in ElementTree.parse(report).iter("testcase"):
        fault = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        yield {
            "test": case.get("name"),
            "outcome": "passed" if fault is None else fault.tag,
            "s": float(case.get("time", 0)),
            "said": "" if fault is None else (fault.get("message") or "").splitlines()[0][:200],
        }
