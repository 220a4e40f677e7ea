"""The CUDA devices of this machine, for a process that must not open one itself: it forks, or is to stay small."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: One of these is there wherever CUDA can be: NVIDIA's driver, or that of the Windows host below WSL.
DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
TIMEOUT_S = 60


@dataclass(frozen=True)
class Card:
    """A device, by the name that `resolve_device` takes, and the memory that nobody uses yet."""

    device: str
    free_bytes: int


def cards() -> list[Card]:
    """Those that this machine's PyTorch can use, asked of a process of its own; none where there is no driver."""
    if not any(path.exists() for path in DRIVER_FILES):
        return []
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    return [Card(**card) for card in json.loads(done.stdout)] if done.returncode == 0 else []


def main() -> None:
    """Print them as JSON."""
    import torch

    numbers = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    found = [{"device": f"cuda:{number}", "free_bytes": torch.cuda.mem_get_info(number)[0]} for number in numbers]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
