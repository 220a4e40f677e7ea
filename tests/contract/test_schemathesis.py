"""Schemathesis reads the served document and looks for answers that it does not allow.

`schemathesis.toml` holds the exceptions and their reasons. `make contract` runs three seeds at full size.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.conftest import Guarded

ROOT = Path(__file__).parent.parent.parent
CONFIG = Path(__file__).with_name("schemathesis.toml")
#: Examples of an operation, and how many cases come of them at least, over all operations.
SLICE = (8, 500)
FULL = (250, 3_400)
#: Uploads are printed whole.
LINE_CHARS = 1_000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("seed", [1, 2, 3] if metafunc.config.getoption("--full") else [1])


def run(guarded: Guarded, *, seed: int, max_examples: int) -> str:
    """What Schemathesis prints; its failure fails the test and shows what it found."""
    program = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG)]
    options = ["--seed", str(seed), "--max-examples", str(max_examples), "--mode", "all"]
    environment = os.environ | {"APEX_TEST_KEY": guarded.key, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*program, "run", f"{guarded.url}/openapi.json", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, "\n".join(line[:LINE_CHARS] for line in done.stdout.splitlines()) + done.stderr
    return done.stdout


@pytest.mark.timeout(1800)
def test_no_answer_is_a_server_error_or_undocumented(guarded: Guarded, full: bool, seed: int) -> None:
    max_examples, n_cases = FULL if full else SLICE
    printed = run(guarded, seed=seed, max_examples=max_examples)
    generated = re.search(r"([0-9]+) generated", printed)
    assert generated, printed
    assert int(generated[1]) >= n_cases
