"""One version: pyproject.toml declares it; the changelog, the command line and the OpenAPI document say the same."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_newest_entry_of_the_changelog_is_the_declared_version() -> None:
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == DECLARED


def test_the_command_line_prints_the_declared_version() -> None:
    command = [sys.executable, "-m", "app.cli", "--version"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert printed.strip() == f"apex {DECLARED}", "install again: `make setup`"


def test_the_openapi_document_has_the_declared_version() -> None:
    assert json.loads((ROOT / "docs/openapi.json").read_text())["info"]["version"] == DECLARED
