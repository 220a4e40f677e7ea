"""`python -m tests.hosts [--jobs N] [--faults N] [--seed N ...]`: a run over many hosts, in namespaces of its own."""

import os
import sys

from tests.hosts.isolation import isolated

if __name__ == "__main__":
    command = isolated([sys.executable, "-m", "tests.hosts.run", *sys.argv[1:]])
    os.execvp(command[0], command)
