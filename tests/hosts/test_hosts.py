"""A slice of `make hosts`: few tracks, and one fault of each kind."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.isolation import may_isolate


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.needs("ip", "nginx", "faketime")
def test_nothing_accepted_is_lost_where_hosts_and_links_fail(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not may_isolate():
        pytest.skip("nobody may make networks of their own here: it takes root, and a container that permits it")
    report, seed = tmp_path / "report.json", random.randrange(10_000)
    options = ["--jobs", "20", "--faults", "0", "--hurry", "--seed", str(seed), "--output", str(report)]
    command = [sys.executable, "-m", "tests.hosts", *options]
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
