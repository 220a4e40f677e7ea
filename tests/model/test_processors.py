"""How many cores there are to use."""

from pathlib import Path

import pytest

from model.processors import usable_cores


@pytest.mark.parametrize(
    ("limit", "n_cores"), [("150000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 8), ("900000 100000\n", 8)]
)
def test_a_containers_share_of_the_processor_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, n_cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path / "cpu.max") == n_cores
