"""The lines that are noted are those that run, however a process ends."""

import builtins
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from coverage import CoverageData

from tests.coverage.notes import with_notes

ROOT = Path(__file__).parents[2]
EXAMPLE = '''import contextlib

@contextlib.contextmanager
def opened():
    """A docstring."""; opened.n_calls = 1
    try:
        yield 1
    finally:
        pass

class Thing:
    x: int = 1
    """Of a field."""

    def f(self):
        while self.x:
            self.x = 0
        else:
            return [y for y in (1, 2)]

for value in (1, "a", None):
    match value:
        case 1:
            value += 1
        case _:
            with opened() as something:
                if value:
                    continue
                elif value == 2:
                    print("never")
    try:
        raise ValueError
    except ValueError:
        Thing().f()
assert opened.__doc__ == "A docstring."
'''
KILLED = "import os, signal, app.core.settings; os.kill(os.getpid(), signal.SIGKILL)"


def test_the_lines_noted_are_those_that_pythons_tracer_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    noted, traced = bytearray(100), set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and frame.f_code.co_filename == "example.py":
            traced.add(frame.f_lineno)
        return trace

    monkeypatch.setattr(builtins, "__reached__", noted, raising=False)
    exec(with_notes(EXAMPLE, "example.py", 0), {})
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        exec(compile(EXAMPLE, "example.py", "exec"), {})
    finally:
        sys.settrace(before)
    assert {line for line, was in enumerate(noted) if was} == traced


def test_what_a_killed_process_reached_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERAGE_FILE", str(tmp_path / "data"))
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {KILLED!r}])"
    subprocess.run([sys.executable, "-m", "tests.coverage", "-c", parent], cwd=ROOT, check=True)
    data = CoverageData(str(tmp_path / "data"))
    data.read()
    assert data.lines(str(ROOT / "app/core/settings.py"))
    assert data.lines(str(ROOT / "app/main.py")) == []
