"""What the kernel says of processes that it ended."""

from pathlib import Path

import pytest

from model.oom_kills import oom_kills


@pytest.mark.parametrize(("said", "n"), [("nr_x 1\noom_kill 12\noom_kill_disable 0\n", 12), ("nr_x 1\n", 0)])
def test_processes_ended_for_lack_of_memory_are_counted_where_the_kernel_does(
    tmp_path: Path, said: str, n: int
) -> None:
    (tmp_path / "vmstat").write_text(said)
    assert oom_kills(tmp_path / "vmstat") == n
    assert oom_kills(tmp_path / "none") == 0
