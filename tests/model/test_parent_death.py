"""A process that ends with its parent."""

import subprocess
import sys

import pytest

from model import parent_death

#: Starts a program through the script and waits for it.
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', *sys.argv[1:]])"
WAITING = "import signal; print('ready', flush=True); signal.pause()"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the signal")
def test_a_program_ends_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, parent_death.__file__, sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        assert parent.stdout.read() == b""  # returns when the program has closed its end of the pipe
