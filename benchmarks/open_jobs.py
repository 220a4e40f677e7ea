"""`python -m benchmarks.open_jobs`: what a reconciler's pass and the requests of clients cost while so many jobs wait.

Commands are those that Redis counts, in scripts too. Milliseconds are the median of the calls, over HTTP for requests;
nothing is cached.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer
from redis import Redis
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.api import ttl_cache
from app.cli.serving.embedded_redis import EmbeddedRedis
from app.core.jobs.models import Job
from app.core.jobs.state_machine import JobStateMachine
from app.core.settings import ApiSettings
from app.core.storage.folder import FolderStorage
from app.main import create_app
from tests.app.api.asgi import RAW, WAV
from tests.app.api.live import live
from tests.app.records import queued
from tests.conftest import state_machine
from worker.reconciler import Reconciler

CALLS = 20
#: Far more than any number of jobs here may have waiting.
BACKLOG_S = 1e9


@dataclass(frozen=True)
class Cost:
    """Of one call."""

    commands: float
    wall_ms: float

    def __str__(self) -> str:
        return f"{self.commands:.0f}, {self.wall_ms:.1f} ms"


def cost(redis: Redis, call: Callable[[], object], n_calls: int = CALLS) -> Cost:
    """The commands of a call, and its median time."""
    call()  # scripts are loaded, connections made
    redis.config_resetstat()
    times_s = [duration_s(call) for _ in range(n_calls)]
    n_commands = sum(stats["calls"] for name, stats in redis.info("commandstats").items() if "config" not in name)
    return Cost(n_commands / n_calls, 1000 * statistics.median(times_s))


def duration_s(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def calls(client: httpx.Client, machine: JobStateMachine, job: Job, folder: Path) -> dict[str, Callable[[], object]]:
    """What is measured, by its name."""

    def get(path: str) -> object:
        return client.get(path).raise_for_status()

    def score() -> object:
        return client.post("/score", content=WAV, headers=RAW).raise_for_status()

    return {
        "a pass of the reconciler": Reconciler(machine, FolderStorage(folder), max_attempts=3).run,
        "GET /jobs": partial(get, "/jobs"),
        "GET /jobs/{id}, in the middle of the queue": partial(get, f"/jobs/{job.id}"),
        "GET /capacity": partial(get, "/capacity"),
        "POST /score": score,
    }


@contextmanager
def service(n_jobs: int) -> Iterator[tuple[Redis, dict[str, Callable[[], object]]]]:
    """A Redis in which so many jobs wait, and what can be asked of it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as server,
        Redis.from_url(server.url) as redis,
    ):
        redis.config_set("appendfsync", "no")
        machine = state_machine(redis)
        jobs = [queued(machine, estimated_s=60.0) for _ in track(range(n_jobs), f"{n_jobs} jobs", transient=True)]
        settings = ApiSettings(redis_url=server.url, data_dir=Path(folder), max_queued_audio_s=BACKLOG_S)
        with live(create_app(settings)) as served, served.client() as client:
            yield redis, calls(client, machine, jobs[n_jobs // 2], Path(folder) / "audio")


def main(jobs: Annotated[list[int] | None, typer.Option(help="How many wait; may be repeated.")] = None) -> None:
    """Measure with 10, 1,000 and 100,000 waiting jobs, unless others are given."""
    ttl_cache.TTL_S = -1.0
    counts = jobs or [10, 1_000, 100_000]
    rows: dict[str, list[str]] = {}
    for n_jobs in counts:
        with service(n_jobs) as (redis, measured):
            for name, call in measured.items():
                rows.setdefault(name, []).append(str(cost(redis, call)))
    table = Table("Redis commands and time of", *(f"{n_jobs:,} jobs wait" for n_jobs in counts))
    for name, row in rows.items():
        table.add_row(name, *row)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
