"""How many scoring processes a machine gets."""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from app.core.settings import WorkerSettings
from model.inference.cards import Card, cards
from worker import slots as module
from worker.main import processes
from worker.slots import SLOT_BYTES, on_cards, slots

H100 = Card("cuda:0", 79 << 30)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen cores and two large cards."""
    monkeypatch.setattr(module, "usable_cores", lambda: 16)
    monkeypatch.setattr(module, "cards", lambda: [H100, Card("cuda:1", 79 << 30)])


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"workers": 3, "device": "cuda"}, {"cuda": 3}),
        ({"workers": "auto", "device": "auto"}, {"cuda:0": 8, "cuda:1": 8}),
        ({"workers": "auto", "device": "cuda"}, {"cuda:0": 13}),
        ({"workers": "auto", "device": "cuda:1"}, {"cuda:1": 13}),
        ({"workers": "auto", "device": "cpu"}, {"cpu": 1}),
    ],
)
def test_a_machine_gets_what_it_can_use(settings: dict[str, object], expected: dict[str, int]) -> None:
    assert Counter(slots(WorkerSettings(**settings))) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("there", "n_cores", "expected"),
    [
        ([H100], 4, [4]),
        ([Card("cuda:0", 24 << 30)], 16, [4]),
        ([Card("cuda:0", 1 << 30)], 16, [1]),
        ([H100, Card("cuda:1", 2 * SLOT_BYTES)], 6, [4, 2]),
        ([H100, Card("cuda:1", 1 << 30), Card("cuda:2", 79 << 30)], 2, [1, 1, 1]),
    ],
)
def test_cards_share_the_cores_as_far_as_their_memory_goes(
    there: Sequence[Card], n_cores: int, expected: list[int]
) -> None:
    assert list(Counter(on_cards(there, n_cores)).values()) == expected


def test_each_process_is_told_its_device(machine: None) -> None:
    assert processes(WorkerSettings(workers="auto"))[1].env["APEX_DEVICE"] == "cuda:1"


def test_the_supervisor_asks_for_cards_without_torch() -> None:
    code = "import sys; from worker.slots import slots; from app.core.settings import WorkerSettings as Settings; "
    code += "slots(Settings(workers='auto', device='cpu')); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.inference.cards.DRIVER_FILES", ())
    assert cards() == []
