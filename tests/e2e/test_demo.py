"""`apex demo` shows the whole service once, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_demonstration_ends_with_scores_and_a_verified_webhook(tiny_weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli", "demo", "--weights", str(tiny_weights)]
    environment = os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last.startswith("webhook job.succeeded verified: evt_job_")
    assert '"status": "succeeded"' in done.stdout
    assert "naturalness" in done.stdout
    assert list(tmp_path.iterdir()) == []
