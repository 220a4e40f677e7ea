"""What must be in a scoring process's environment before it starts, so that the CPU is used well. Never the numbers.

What the operator has set is left alone. docs/performance.md has the measurements.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

#: Lets PyTorch keep the memory of an activation (295 MB) for the next one, instead of returning and faulting it in
#: again page by page. OpenVINO does so by itself.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def for_processes(n_processes: int, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of each of n scoring processes on this machine, less those that are given."""
    # Threads that wait for work sleep: spinning ones would take the cores from the other slots and the decoder.
    threads = {"OMP_NUM_THREADS": str(max(1, usable_cores() // n_processes)), "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: value for name, value in (MALLOC | threads).items() if name not in given}


def usable_cores(cpu_max: Path = CGROUP_CPU_MAX) -> int:
    """Processor cores that this process may use: those it may run on, or fewer where a container is given less time."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
        return min(n_cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such limit, or "max"
        return n_cores
