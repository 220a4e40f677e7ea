"""A private S3 server for one machine: SeaweedFS, from a wheel. To show, test and measure with; its data is lost."""

import json
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from model.domain import ApexError
from model.parent_death import tied_to_this_process

HOST = "127.0.0.1"
BUCKET = "apex"
#: Credentials of a server that only this machine can reach, while it runs.
ACCESS_KEY, SECRET_KEY = "apex", "apex-on-this-machine"
START_TIMEOUT_S = 60.0
#: Listeners of the server: each kind of node has two, and none may stand on its default port.
PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
S3_PORTS = ("s3.port", "s3.port.grpc")
#: The bucket may be made by the first upload; identities are those of the file, and no other service runs beside.
OPTIONS = ("-filer", "-s3", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=50")


class EmbeddedS3Error(ApexError):
    """The private S3 server cannot be had; the text says what to do."""


@contextmanager
def embedded_s3(directory: Path) -> Iterator[dict[str, str]]:
    """A server until the block ends, with its data in `directory`; the environment in which its bucket is used."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ports = dict(zip((*PORTS, *S3_PORTS), free_ports(len(PORTS) + len(S3_PORTS)), strict=True))
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            tied_to_this_process(command(directory.absolute(), ports)), stdout=log, stderr=log, cwd=directory
        )
    try:
        variables = environment(ports["s3.port"])
        _wait_until_ready(process, variables["AWS_ENDPOINT_URL"])
        yield variables
    finally:
        process.kill()  # it takes ten seconds to end by itself, and its data is of no more use
        process.wait()


def find_server() -> str:
    """Path of the program: in this environment, else on PATH."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("weed", path=scripts) or shutil.which("weed")
    if found is None:
        raise EmbeddedS3Error("no S3 server found: install this package's 'embedded-s3' extra")
    return found


def free_ports(n: int) -> list[int]:
    """Ports that are free at this moment, all different."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.create_server((HOST, 0))) for _ in range(n)]
        return [probe.getsockname()[1] for probe in sockets]


def command(directory: Path, ports: Mapping[str, int], host: str = HOST) -> list[str]:
    """What runs a server with its data in `directory`, on these of its ports."""
    identity = {
        "name": BUCKET,
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    identities = directory / "identities.json"
    identities.write_text(json.dumps({"identities": [identity]}))
    places = [f"-dir={directory}", f"-ip={host}", f"-ip.bind={host}", f"-s3.config={identities}"]
    listeners = [f"-{name}={port}" for name, port in ports.items()]
    return [find_server(), "server", *places, *listeners, *OPTIONS]


def environment(port: int, host: str = HOST) -> dict[str, str]:
    """In which the bucket of a server is used."""
    return {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
    }


def takes_writes(endpoint: str) -> bool:
    """Whether bytes can be written, for which the server makes the bucket and a volume."""
    store = S3Store(
        BUCKET,
        endpoint=endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        client_options={"allow_http": True, "timeout": timedelta(seconds=5)},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    )
    try:
        obstore.put(store, "ready", b"yes")
    except BaseError:
        return False
    return True


def _wait_until_ready(process: subprocess.Popen[bytes], endpoint: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if takes_writes(endpoint):
            return
        time.sleep(0.05)
    raise EmbeddedS3Error("the private S3 server did not start: see server.log in its folder")
