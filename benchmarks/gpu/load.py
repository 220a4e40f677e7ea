"""How busy the machine and the device are, and which processes the time of the processors goes to."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import psutil

#: What in a command line tells a kind of process.
KINDS = {
    "api": "app.cli api",
    "workers": "worker.process",
    "fork servers": "sandbox.forkserver",
    "redis": "valkey-server",
    "litserve": "litserve_loop",
}
PERIOD_S = 0.1


class Load:
    """Within the block, cores busy on the whole machine and by kind of process below this one, and the device's use.

    Decoders are processes of some tenths of a second, so they are in none of the kinds: they and the clients, which are
    this process, are what the kinds leave of the whole.
    """

    def __enter__(self) -> Self:
        self._began, self._before, self._busy_before = time.monotonic(), _cpu_by_kind(), _machine_busy_s()
        self._own_before = sum(psutil.Process().cpu_times()[:2])
        self._device: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        took_s = time.monotonic() - self._began
        self._over.set()
        self._thread.join()
        after = _cpu_by_kind()
        by_kind = {kind: (after[kind] - self._before.get(kind, 0.0)) / took_s for kind in after}
        self.found: dict[str, Any] = {
            "device busy, %": sum(self._device) / len(self._device) if self._device else "-",
            "machine, cores": (_machine_busy_s() - self._busy_before) / took_s,
            "clients, cores": (sum(psutil.Process().cpu_times()[:2]) - self._own_before) / took_s,
            "of it, by kind of process": ", ".join(f"{kind} {cores:.2f}" for kind, cores in by_kind.items()),
        }

    def _sample(self) -> None:
        with suppress(Exception), _utilisation() as device:
            while not self._over.wait(PERIOD_S):
                self._device.append(device())


@contextmanager
def _utilisation() -> Iterator[Callable[[], float]]:
    """Percent of the last moments in which any kernel ran. Raises where there is no such library or device."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    yield lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    pynvml.nvmlShutdown()


def _cpu_by_kind() -> dict[str, float]:
    totals: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            kind = next((kind for kind, mark in KINDS.items() if mark in command), "others")
            totals[kind] = totals.get(kind, 0.0) + sum(process.cpu_times()[:2])
    return totals


def _machine_busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
