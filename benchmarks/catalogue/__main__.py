"""`python -m benchmarks.catalogue FOLDER [N_TRACKS]` makes a small catalogue."""

import sys
from pathlib import Path

from benchmarks.catalogue.made_up import make

if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40)
