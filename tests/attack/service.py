"""`python -m tests.attack.service`: what `apex up` runs, with few descriptors, and clocks of its own if asked to."""

import os
import resource
from collections.abc import Mapping
from pathlib import Path

from app.cli.serving.service import service
from tests.attack import process
from tests.attack.clocks import KINDS, Clocks

PROGRAM = ("-m", "tests.attack.service")
#: In the environment: the folder of clocks.
CLOCKS_VAR = "ATTACK_CLOCKS"
#: So few that a flood of connections could use them up.
MAX_DESCRIPTORS = 512


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, MAX_DESCRIPTORS))
    environments = clock_environments()
    os.environ |= environments.get("redis", {})  # the child that has no environment of its own
    with service(process_command=process.COMMAND) as (supervisor, _url):
        for child in supervisor.children:
            child.env = {**child.env, **environments.get(child.name.split()[0], {})}
        supervisor.run()


def clock_environments() -> Mapping[str, Mapping[str, str]]:
    """What gives each kind of process its clock; nothing where they have the machine's."""
    if CLOCKS_VAR not in os.environ:
        return {}
    clocks = Clocks(Path(os.environ[CLOCKS_VAR]))
    return {kind: clocks.environment(kind) for kind in KINDS}


if __name__ == "__main__":
    main()
