"""What must be in a scoring process's environment before it starts, so that the CPU is used well.

Scores do not depend on it. What the operator has set is left alone. docs/performance.md has the measurements.
"""

import os
from collections.abc import Mapping

from model.processors import usable_cores

#: Lets PyTorch keep the memory of an activation (295 MB) for the next one, instead of returning and faulting it in
#: again page by page. OpenVINO does so by itself.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def for_processes(n_processes: int, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of each of n scoring processes on this machine, less those that are given."""
    # Threads that wait for work sleep: spinning ones would take the cores from the other processes and the decoder.
    threads = {"OMP_NUM_THREADS": str(max(1, usable_cores() // n_processes)), "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: value for name, value in (MALLOC | threads).items() if name not in given}
