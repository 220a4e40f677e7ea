"""`python -m benchmarks.waiting`: what a client waits for beyond the work itself, in milliseconds.

From the end of a run to the answer of a `GET /jobs/{id}` that waits for it, and `GET /livez` while large uploads
come in.
The API and its private Redis run in processes of their own; nothing scores.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import typer
from redis import Redis
from rich.console import Console
from rich.table import Table

from app.core.jobs.state_machine import JobStateMachine
from benchmarks.uploads import HOST, MB, Server, our_service
from tests.app.records import RESULT, running
from tests.conftest import state_machine
from tests.e2e.wire import Upload

UPLOADS = 20
UPLOAD_BYTES = 15 * MB


def delays_s(client: httpx.Client, jobs: JobStateMachine, n_runs: int) -> Iterator[float]:
    """From the end of each run to the answer that tells of it."""
    with ThreadPoolExecutor(1) as pool:
        for _ in range(n_runs):
            run = running(jobs)
            answer = pool.submit(client.get, f"/jobs/{run.id}", params={"wait": 20})
            time.sleep(0.05)
            ended_at = time.monotonic()
            jobs.succeed(run, result=RESULT)
            answer.result().raise_for_status()
            yield time.monotonic() - ended_at


def livez_s(client: httpx.Client, over: threading.Event) -> Iterator[float]:
    """Of request after request until it is over."""
    while not over.is_set():
        began = time.monotonic()
        client.get("/livez").raise_for_status()
        yield time.monotonic() - began
        time.sleep(0.005)


def livez_under_uploads_s(client: httpx.Client, server: Server) -> list[float]:
    over = threading.Event()
    with ThreadPoolExecutor(UPLOADS + 1) as pool:
        asked = pool.submit(lambda: list(livez_s(client, over)))
        url = f"http://{HOST}:{server.port}"
        list(pool.map(lambda _: Upload(url, UPLOAD_BYTES).finish(), range(UPLOADS)))
        over.set()
        return asked.result()


def row(found: Iterable[float]) -> list[str]:
    found_ms = [1000 * value for value in found]
    cuts = statistics.quantiles(found_ms, n=100, method="inclusive")
    return [str(len(found_ms)), *(f"{value:.1f}" for value in (cuts[49], cuts[94], cuts[98]))]


def main(runs: Annotated[int, typer.Option(help="Runs whose end is waited for.")] = 100) -> None:
    """Measure both, one after the other."""
    table = Table("milliseconds", "requests", "p50", "p95", "p99")
    with (
        tempfile.TemporaryDirectory() as directory,
        our_service(Path(directory)) as server,
        httpx.Client(base_url=f"http://{HOST}:{server.port}", timeout=60) as client,
        Redis.from_url(server.redis_url) as redis,
    ):
        table.add_row("end of a run to the answer", *row(delays_s(client, state_machine(redis), runs)))
        table.add_row("/livez under 20 uploads", *row(livez_under_uploads_s(client, server)))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
