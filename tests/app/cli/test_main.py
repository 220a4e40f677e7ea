"""`apex` itself: quick to import, and a wrong setting is one sentence."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", [("up",), ("worker",), ("api",), ("score", "a.wav"), ("keys", "list")])
def test_a_wrong_setting_is_one_line_on_stderr_and_exit_status_1(command: tuple[str, ...]) -> None:
    wrong = {"APEX_WORKERS": "0", "APEX_PORT": "http", "APEX_LOG_LEVEL": "loud"}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *command], env=os.environ | wrong, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("apex: APEX_")
