"""What a scoring process finds in its environment."""

from pathlib import Path

import pytest

from app.core.settings import WorkerSettings
from worker import environment
from worker.main import processes


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "usable_cores", lambda: 4)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("n_processes", "n_threads"), [(1, "4"), (2, "2"), (3, "1"), (9, "1")])
def test_slots_share_the_cores(n_processes: int, n_threads: str) -> None:
    assert environment.for_processes(n_processes, {})["OMP_NUM_THREADS"] == n_threads


def test_what_the_operator_has_set_stays() -> None:
    given = {"OMP_NUM_THREADS": "7", "MALLOC_TOP_PAD_": "0"}
    assert not environment.for_processes(1, given).keys() & given.keys()


@pytest.mark.parametrize(
    ("limit", "n_cores"), [("150000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 8), ("900000 100000\n", 8)]
)
def test_a_containers_share_of_the_processor_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, n_cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    (tmp_path / "cpu.max").write_text(limit)
    assert environment.usable_cores(tmp_path / "cpu.max") == n_cores


def test_every_slot_starts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert [child.env["OMP_WAIT_POLICY"] for child in processes(WorkerSettings(workers=2))] == ["PASSIVE"] * 2
