"""What a scoring process finds in its environment."""

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


def test_every_slot_starts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert [child.env["OMP_WAIT_POLICY"] for child in processes(WorkerSettings(workers=2))] == ["PASSIVE"] * 2
