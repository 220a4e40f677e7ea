"""Accepted uploads per second, and the time of `GET /jobs/{id}` under load, beside a bare FastAPI service.

    python -m benchmarks.uploads

The bare service is what one writes first: an `UploadFile` endpoint that copies the file to the same disk, without sync,
record or queue, and a `GET` that answers from a dict. A second one syncs the file and its directory. A third one also
writes a record of a few fields to a Redis that syncs, and enqueues a job with RQ, in one round trip: the least that any
service with these promises must do. All run the same server in one process. Rounds go through them in turns, so that a
busy machine hurts all; the best round of each counts.
Ratios are ours to bare: uploads of 1 are as fast, and a `GET` of 2 takes twice as long.
Results go to `benchmarks/results/uploads.json`.
"""

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import typer
from redis import Redis
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.cli.serving.embedded_redis import EmbeddedRedis
from benchmarks.timing import machine
from tests.ports import free_port

HOST = "127.0.0.1"
KB, MB = 1000, 1000 * 1000
CLIENTS = 32
RESULTS = Path(__file__).parent / "results" / "uploads.json"

#: Bytes of a file, and how many of them make a round.
UPLOADS = {200 * KB: 640, 5 * MB: 64}
GETS = 300
GET_LOAD_BYTES = 200 * KB

BOUNDARY = "b0undary"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="track.wav"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


Rounds = dict[str, list[float]]


@dataclass
class Server:
    """One of the services."""

    port: int
    files: Path
    forget: Callable[[], object]
    redis_url: str = ""

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self.port, timeout=60)

    def empty(self) -> None:
        """Forget the round before."""
        for file in self.files.iterdir():
            file.unlink()
        self.forget()


#: Ours first.
Servers = dict[str, Server]


def form(n_bytes: int) -> bytes:
    """A form with one file that begins like a WAV file."""
    audio = b"RIFF\xff\xff\xff\x7fWAVEfmt " + os.urandom(n_bytes - 16)
    return HEAD + audio + TAIL


def upload(connection: http.client.HTTPConnection, body: bytes) -> str:
    """Send a track; its job's path."""
    connection.request("POST", "/score", body, FORM)
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status in (200, 202), answer
    return f"/jobs/{answer['id']}"


def uploads_per_s(server: Server, body: bytes, n_uploads: int) -> float:
    """A round: several clients, each with a connection that it keeps."""
    share = n_uploads // CLIENTS

    def client() -> None:
        connection = server.connect()
        for _ in range(share):
            upload(connection, body)
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(client) for _ in range(CLIENTS)]:
            done.result()
    return CLIENTS * share / (time.perf_counter() - began)


@contextmanager
def uploading(server: Server, body: bytes) -> Iterator[None]:
    """Uploads in the background, from a quarter of the clients of a round of uploads."""
    stop = threading.Event()

    def client() -> None:
        connection = server.connect()
        while not stop.is_set():
            upload(connection, body)
        connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS // 4)]
        try:
            yield
        finally:
            stop.set()
        for done in clients:
            done.result()


def get_ms(server: Server, body: bytes) -> float:
    """The median time of a `GET /jobs/{id}` while others upload."""
    connection = server.connect()
    path = upload(connection, body)
    with uploading(server, body):
        times_ms = [_timed_get_ms(connection, path) for _ in range(GETS)]
    connection.close()
    return statistics.median(times_ms)


def _timed_get_ms(connection: http.client.HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    assert response.status == 200
    return (time.perf_counter() - began) * 1000


def in_turns(servers: Servers, rounds: int, measure: Callable[[Server], float]) -> Rounds:
    """Each round's number of each service, after a round for each that does not count."""
    found: Rounds = {name: [] for name in servers}
    for number in track(range(-1, rounds), description="rounds", transient=True):
        for name, server in servers.items():
            server.empty()
            value = measure(server)
            if number >= 0:
                found[name].append(value)
    return found


@dataclass
class Row:
    """One line of the result: the best round of each service."""

    what: str
    unit: str
    best: dict[str, float]
    rounds: Rounds

    @property
    def ratios(self) -> dict[str, float]:
        """The first to each of the others."""
        first, *others = self.best
        return {name: self.best[first] / self.best[name] for name in others}


def benchmark(servers: Servers, rounds: int) -> list[Row]:
    rows = []
    for n_bytes, n_uploads in UPLOADS.items():
        found = in_turns(servers, rounds, partial(uploads_per_s, body=form(n_bytes), n_uploads=n_uploads))
        rows.append(Row(f"uploads of {n_bytes // KB} kB", "1/s", _each(max, found), found))
    found = in_turns(servers, rounds, partial(get_ms, body=form(GET_LOAD_BYTES)))
    rows.append(Row("GET /jobs/{id} under load, median", "ms", _each(min, found), found))
    return rows


def _each(best: Callable[[list[float]], float], found: Rounds) -> dict[str, float]:
    return {name: best(values) for name, values in found.items()}


@contextmanager
def serving(command: list[str], port: int, **environment: str) -> Iterator[None]:
    """A server in a process of its own, from its first answer to the end of the block."""
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            assert process.poll() is None, "the server did not start"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def our_service(directory: Path, **environment: str) -> Iterator[Server]:
    """The API with its private Redis, which syncs every write; no worker, so that all cores serve uploads."""
    port, data = free_port(HOST), Path(tempfile.mkdtemp(prefix="ours-", dir=directory))
    (data / "audio").mkdir(mode=0o700)
    with EmbeddedRedis(data / "redis") as embedded, Redis.from_url(embedded.url) as redis:
        settings = {"DATA_DIR": str(data), "REDIS_URL": embedded.url, "MAX_QUEUED_AUDIO_S": "1e12"}
        environment |= {f"APEX_{name}": value for name, value in (settings | {"LOG_LEVEL": "WARNING"}).items()}
        with serving([sys.executable, "-m", "app.cli", "api", "--port", str(port)], port, **environment):
            yield Server(port, data / "audio", redis.flushall, embedded.url)


@contextmanager
def bare_service(directory: Path, *options: str, forget: Callable[[], object] = lambda: None) -> Iterator[Server]:
    port, files = free_port(HOST), Path(tempfile.mkdtemp(prefix="bare-", dir=directory))
    with serving([sys.executable, "-m", "benchmarks.baselines.bare_endpoint", str(port), str(files), *options], port):
        yield Server(port, files, forget)


@contextmanager
def queueing_service(directory: Path) -> Iterator[Server]:
    """The bare service with sync, record and queue."""
    with (
        EmbeddedRedis(directory / "bare-redis") as embedded,
        Redis.from_url(embedded.url) as redis,
        bare_service(directory, "sync", embedded.url, forget=redis.flushall) as server,
    ):
        yield server


def report(rows: list[Row], path: Path) -> None:
    """Print the rows, and write them with the machine that they were measured on."""
    table = Table("", "unit", *rows[0].best, *(f"{next(iter(rows[0].best))} / {name}" for name in rows[0].ratios))
    for row in rows:
        numbers = (*row.best.values(), *row.ratios.values())
        table.add_row(row.what, row.unit, *(f"{number:.2f}" for number in numbers))
    Console().print(table)
    results = {"machine": machine(), "rows": [asdict(row) | {"ratios": row.ratios} for row in rows]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def main(rounds: int = 5, directory: Path | None = None) -> None:
    """Compare the services. Files go below DIRECTORY, so choose one on the disk of interest."""
    place = Path(tempfile.mkdtemp(prefix="apex-uploads-", dir=directory))
    try:
        with (
            our_service(place) as ours,
            bare_service(place) as bare,
            bare_service(place, "sync") as synced,
            queueing_service(place) as queueing,
        ):
            services = {"ours": ours, "bare": bare, "bare, sync": synced, "bare, sync, record, queue": queueing}
            report(benchmark(services, rounds), RESULTS)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    typer.run(main)
