"""`python -m benchmarks.recovery [--kills 20]`: how long after SIGKILL of its worker a job runs again.

Real worker processes with the scripted scorer of the chaos tests, under the real supervisor with its own times; Redis
is the private one. `--after-the-lease` measures the slow way: the supervisor died too, so that only the lease tells.
"""

import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.cli.serving.embedded_redis import EmbeddedRedis
from app.core.jobs.models import Job, JobState, new_job_id
from app.core.jobs.opening import open_jobs
from app.core.redis.client import connect
from app.core.settings import WorkerSettings
from app.core.storage.opening import open_storage
from tests.chaos import process
from tests.chaos.scripted import Script
from worker.main import processes, reconciler, supervised
from worker.supervisor import Supervisor

console = Console()
PATIENCE_S = 120.0


class Bench:
    """A service without its front end."""

    def __init__(self, settings: WorkerSettings, supervisor: Supervisor) -> None:
        redis = connect(settings.redis_url, max_retries=3)
        self.machine = open_jobs(settings, redis)
        self.storage = open_storage(settings)
        self.supervisor = supervisor

    def recovery_s(self, number: int) -> float:
        """Kill the worker of one job in the middle of it; seconds until the next run begins."""
        job_id = self.submit(Script(f"kill {number}", run_s=600.0, n_segments=6000))
        job = self.running(job_id, attempt=1)
        [pid] = [
            child.process.pid for child in self.supervisor.children if child.instance_id == job.worker and child.process
        ]
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.running(job_id, attempt=2)
        took_s = time.monotonic() - killed_at
        self.machine.purge(job)
        self.storage.delete(job_id)
        return took_s

    def submit(self, script: Script) -> str:
        job_id = new_job_id()
        with self.storage.receive(job_id) as part:
            part.append(script.track())
            part.commit()
        self.machine.create(Job(id=job_id, storage_key=job_id))
        return job_id

    def running(self, job_id: str, *, attempt: int) -> Job:
        deadline = time.monotonic() + PATIENCE_S
        while not (
            (job := self.machine.store.get(job_id)) and job.status is JobState.RUNNING and job.attempt == attempt
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} does not run: {job}")
            time.sleep(0.01)
        return job


@contextmanager
def bench(n_workers: int, *, after_the_lease: bool) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(Path(directory) / "redis") as redis:
        values = {"REDIS_URL": redis.url, "DATA_DIR": directory, "WORKERS": n_workers, "LOG_LEVEL": "ERROR"}
        os.environ |= {f"APEX_{name}": str(value) for name, value in values.items()}
        settings = WorkerSettings()
        supervisor = supervised(settings, processes(settings, command=process.COMMAND))
        if after_the_lease:
            supervisor.on_tick = reconciler(settings).run  # one that nobody tells who has died
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        try:
            yield Bench(settings, supervisor)
        finally:
            supervisor.stop()
            thread.join()


def main(
    kills: Annotated[int, typer.Option(help="Kills for each number of workers.")] = 20,
    after_the_lease: Annotated[bool, typer.Option(help="As if the supervisor had died with its worker.")] = False,
) -> None:
    """Measure with one worker, which must be started again first, and with two."""
    table = Table(title="SIGKILL of a worker until its job runs again, in seconds")
    for name in ("workers", "kills", "p50", "p90", "p99", "longest"):
        table.add_column(name, justify="right")
    for n_workers in (1, 2):
        with bench(n_workers, after_the_lease=after_the_lease) as under_test:
            numbers = track(range(kills), description=f"{n_workers} workers", console=console)
            found = [under_test.recovery_s(number) for number in numbers]
        cuts = statistics.quantiles(found, n=100, method="inclusive")
        figures = (cuts[49], cuts[89], cuts[98], max(found))
        table.add_row(str(n_workers), str(kills), *(f"{figure:.1f}" for figure in figures))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
