"""A host with an S3 server, which keeps the audio of all services."""

import random
from pathlib import Path

from app.cli.serving import embedded_s3
from app.cli.serving.embedded_s3 import BUCKET, PORTS, S3_PORTS
from tests.hosts.network import Program

URL = f"s3://{BUCKET}/audio"
#: Below those that a system gives by itself.
FIRST_PORTS = range(9000, 32000, len(PORTS) + len(S3_PORTS))


def any_port() -> int:
    """The first of a server's ports. It names sockets in /tmp by them, which other runs have too."""
    return random.choice(FIRST_PORTS)


def program(folder: Path, address: str, port: int) -> Program:
    folder.mkdir(parents=True)
    ports = {name: port + at for at, name in enumerate((*S3_PORTS, *PORTS))}
    return Program(embedded_s3.command(folder, ports, address))
