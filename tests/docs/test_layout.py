"""The tree is easy to enter: no directory is a long list."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("app", "worker", "model", "tests", "benchmarks", "clients")
#: What was installed or built, not written.
MADE = {"node_modules", "results", "build", "dist"}
MAX_MODULES = 16
MODULES = (".py", ".lua", ".js", ".ts")


def test_no_directory_has_more_than_sixteen_modules() -> None:
    too_long = {}
    for room in ROOMS:
        for directory, below, files in os.walk(ROOT / room):
            below[:] = set(below) - MADE
            modules = [name for name in files if name.endswith(MODULES) and name != "__init__.py"]
            if len(modules) > MAX_MODULES:
                too_long[directory] = len(modules)
    assert too_long == {}
