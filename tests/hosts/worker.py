"""`python -m tests.hosts.worker`: what `apex worker` runs, with scripted processes."""

from tests.chaos import process
from worker.main import main

PROGRAM = ("-m", "tests.hosts.worker")

if __name__ == "__main__":
    main(process.COMMAND)
