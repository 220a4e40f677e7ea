"""Fair comparisons on a machine that others use too: rounds that alternate, the best of each, processor time beside."""

import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.progress import track

from model.processors import usable_cores

LIBRARIES = ("torch", "transformers", "openvino", "litserve", "numpy", "av")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of processor, all threads together."""

    wall_s: float
    cpu_s: float


def cost_of(work: Callable[[], object]) -> Cost:
    """What one call costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Cost]:
    """The best of several rounds for each work, after one that does not count. Each round runs all of them in turn."""
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    for number in track(range(rounds + 1), description=" / ".join(works)):
        for name, work in works.items():
            cost = cost_of(work)
            if number:
                costs[name].append(cost)
    return {
        name: Cost(min(each.wall_s for each in found), min(each.cpu_s for each in found))
        for name, found in costs.items()
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    flags = set(cpuinfo.split())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": usable_cores(),
        "vector": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "load_at_start": Path("/proc/loadavg").read_text().split()[0],
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
