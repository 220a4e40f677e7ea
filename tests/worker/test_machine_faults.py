"""The pause of a worker whose machine is at fault."""

import errno
from collections.abc import Iterator

import pytest

from worker import machine_faults
from worker.machine_faults import Pause

FULL = OSError(errno.ENOSPC, "No space left on device")


class Clock:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(machine_faults, "time", clock)
    return clock


def raising(faults: Iterator[OSError | None]) -> None:
    if fault := next(faults, None):
        raise fault


def test_a_pause_grows_with_each_fault_in_a_row_and_starts_anew_after_a_good_run(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    pause, delays_s = Pause(lambda: None), list[float]()
    for _ in range(6):
        pause.begin(FULL)
        delays_s.append(pause.remaining_s)
        clock.now_s += pause.remaining_s
        pause.end_if_well()
    assert delays_s == [1, 2, 5, 5, 5, 5]
    assert caplog.text.count("No space left on device") == 3
    pause.forget()
    pause.begin(FULL)
    assert pause.remaining_s == 1


def test_a_pause_ends_when_a_probe_passes(clock: Clock) -> None:
    faults = iter([FULL, FULL])
    pause = Pause(lambda: raising(faults))
    pause.begin(FULL)
    n_probes = 0
    while pause.active:
        clock.now_s += pause.remaining_s
        pause.end_if_well()
        n_probes += 1
    assert n_probes == 3


def test_nothing_is_probed_before_its_time(clock: Clock) -> None:
    pause = Pause(lambda: pytest.fail("too early"))
    pause.begin(FULL)
    pause.end_if_well()
    assert pause.active
