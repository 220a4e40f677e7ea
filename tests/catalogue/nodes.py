"""A Ray head and two nodes, each a host of its own, with an S3 server between them; one node is killed midway.

    python -m tests.catalogue.nodes    as root

Every object is then that of a run in which nothing was killed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import obstore

from app.cli.serving import embedded_s3
from app.cli.serving.embedded_s3 import BUCKET, takes_writes
from app.core.storage.location import parse_location
from app.core.storage.object_store import connect
from model.training.ray_session import ENVIRONMENT
from model.weights.directory import write_stand_in
from tests.catalogue.runs import command, digests, environment, make_catalogue
from tests.hosts import object_store
from tests.hosts.isolation import isolated, prepare
from tests.hosts.network import Host, Program, address_of, switch

HEAD, STORE, NODES = address_of(2), address_of(41), (address_of(3), address_of(4))
RAY_PORT = 6379
#: Of this run, in memory: by what is in the usual folder, others would find this cluster and join it.
RAY_FOLDER = "/run/ray"
#: What all processes of the cluster must know.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5e" * 32}
N_TRACKS = 60
START_S, RUN_S = 120.0, 600.0
#: Files of results that are there when the node is killed.
PARTS_BEFORE = 5
URL = f"s3://{BUCKET}"
IN_NAMESPACES = "--in-namespaces"


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[list[Host], dict[str, str]]]:
    """The head and the nodes, with what processes on them have in their environment."""
    port = object_store.any_port()
    store = embedded_s3.environment(port, STORE)
    variables = {**environment(folder / "weights", store), **ENVIRONMENT, "RAY_ADDRESS": f"{HEAD}:{RAY_PORT}", **TOKEN}
    with switch():
        hosts = [Host("store", STORE, {"store": object_store.program(folder / "store", STORE, port)}, logs=folder)]
        try:
            hosts[0].boot()
            _until(lambda: takes_writes(store["AWS_ENDPOINT_URL"]), START_S)
            for name, address in zip(("head", "node-1", "node-2"), (HEAD, *NODES), strict=True):
                hosts.append(Host(name, address, {"ray": ray(address, variables)}, logs=folder))
                hosts[-1].boot()
                if name == "head":
                    time.sleep(10)  # until it listens
            yield hosts[1:], variables
        finally:
            for host in hosts:
                host.remove()


def ray(address: str, variables: Mapping[str, str]) -> Program:
    """What runs a host of the cluster. The head works on no bucket, because it has no core."""
    where = ["--head", f"--port={RAY_PORT}", "--include-dashboard=false", f"--temp-dir={RAY_FOLDER}"]
    where = where if address == HEAD else [f"--address={HEAD}:{RAY_PORT}"]
    sizes = [f"--num-cpus={0 if address == HEAD else 1}", "--object-store-memory=100000000", "--disable-usage-stats"]
    script = "from ray.scripts.scripts import main; main()"
    options = [*where, *sizes, f"--node-ip-address={address}", "--block"]
    environment = {name: value for name, value in variables.items() if name != "RAY_ADDRESS"}
    return Program([sys.executable, "-c", script, "start", *options], environment)


def started(host: Host, variables: Mapping[str, str], out: str) -> "subprocess.Popen[bytes]":
    """A run that begins on a host, with an actor on each node."""
    line = command(f"{URL}/audio", out, "--actors", "2")
    host.programs = {**host.programs, "driver": Program(line, variables)}
    return host.start("driver")


def campaign(folder: Path) -> int:
    """Score twice, the second time with a node that dies midway; how many files were there when it did."""
    write_stand_in(folder / "weights", size="tiny")
    make_catalogue(folder / "audio", N_TRACKS)
    with cluster(folder) as (hosts, variables):
        head, dying, _ = hosts
        os.environ.update({name: value for name, value in variables.items() if name.startswith("AWS_")})
        for path in (folder / "audio").iterdir():
            obstore.put(connect(parse_location(URL), 30), f"audio/{path.name}", path)
        _require_success(started(head, variables, f"{URL}/whole"), folder)
        driver = started(head, variables, f"{URL}/killed")
        _until(lambda: _n_parts(f"{URL}/killed") >= PARTS_BEFORE or driver.poll() is not None, RUN_S)
        n_before = _n_parts(f"{URL}/killed")
        dying.crash()
        _require_success(driver, folder)
        assert digests(f"{URL}/killed") == digests(f"{URL}/whole")
        return n_before


def _require_success(driver: "subprocess.Popen[bytes]", folder: Path) -> None:
    if status := driver.wait(RUN_S):
        raise AssertionError(f"exit status {status}\n{(folder / 'head.log').read_text(errors='replace')[-3_000:]}")


def _n_parts(out: str) -> int:
    return sum("part-" in found["path"] for found in _listed(out))


def _listed(out: str) -> Sequence[Mapping[str, str]]:
    return [found for objects in obstore.list(connect(parse_location(out), 30)) for found in objects]  # type: ignore[misc]


def _until(true: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError("it took too long")
        time.sleep(0.1)


def main() -> None:
    """In namespaces of its own, so that nothing is left of a run that is killed."""
    if IN_NAMESPACES not in sys.argv:
        line = isolated([sys.executable, "-m", "tests.catalogue.nodes", IN_NAMESPACES])
        os.execvp(line[0], line)
    prepare()
    folder = Path(tempfile.mkdtemp(prefix="apex-nodes-"))
    try:
        n_before = campaign(folder)
    finally:
        shutil.rmtree(folder / "store", ignore_errors=True)
    sys.stdout.write(f"a node died with {n_before} files written: every object is that of an undisturbed run\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
