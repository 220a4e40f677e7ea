"""A host with an S3 server, which keeps the audio of all services."""

from pathlib import Path

from app.cli import embedded_s3
from app.cli.embedded_s3 import BUCKET, PORTS, S3_PORTS
from tests.hosts.network import Program

FIRST_PORT = 9000
NUMBERED = {name: FIRST_PORT + at for at, name in enumerate((*S3_PORTS, *PORTS))}
URL = f"s3://{BUCKET}/audio"


def program(folder: Path, address: str) -> Program:
    folder.mkdir(parents=True)
    return Program(embedded_s3.command(folder, NUMBERED, address))


def environment(address: str) -> dict[str, str]:
    """What clients of the server are told."""
    return embedded_s3.environment(FIRST_PORT, address)
