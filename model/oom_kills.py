"""How many processes the kernel has ended because memory ran out. The standard library only."""

import re
from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def oom_kills(vmstat: Path = VMSTAT) -> int:
    """Processes ended since this machine's start, in any container; 0 where the system does not tell."""
    try:
        found = re.search(rb"^oom_kill (\d+)$", vmstat.read_bytes(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
