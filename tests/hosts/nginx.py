"""nginx before several front ends, as the sample of `deploy/` has it."""

from collections.abc import Sequence
from pathlib import Path

from tests.deploy.test_nginx import AROUND, SAMPLE, nginx
from tests.hosts.network import Program

ROOT_PATH = "/apex"
#: The one front end of the sample.
SERVER = "    server 127.0.0.1:8000;"


def program(folder: Path, addresses: Sequence[str]) -> Program:
    """nginx with its files in a folder, before the front ends of these addresses."""
    folder.mkdir(parents=True)
    assert SERVER in SAMPLE
    servers = "\n".join(SERVER.replace("127.0.0.1", address) for address in addresses)
    (folder / "sample.conf").write_text(SAMPLE.replace(SERVER, servers))
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    return Program(nginx(folder))
