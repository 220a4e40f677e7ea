"""The lock on an extraction's folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from model.training.shards import exclusive_lock
from model.training.tables import DataError

HOLDER = """
import sys, time
from pathlib import Path
from model.training.shards import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_extraction_is_refused_at_once_until_the_first_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(DataError, match="another extraction"), exclusive_lock(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with exclusive_lock(tmp_path):
            pass


def test_a_lock_is_released_with_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive_lock(tmp_path):
            pass
