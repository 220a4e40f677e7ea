"""(e) What a job costs beyond decoding and inference: the real queue, record and worker around a scorer of no time."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from redis import Redis

from app.cli.serving.embedded_redis import EmbeddedRedis
from tests.conftest import state_machine
from tests.worker.fakes import accepted, score_track
from tests.worker.workers import worker


def run(n_jobs: int) -> list[dict[str, Any]]:
    """One row: milliseconds of wall clock and of the worker's processor, a job of three segments."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as server,
        Redis.from_url(server.url) as redis,
    ):
        return [_row(redis, Path(folder), n_jobs)]


def _row(redis: Redis, folder: Path, n_jobs: int) -> dict[str, Any]:
    machine = state_machine(redis)
    jobs = [accepted(machine, folder) for _ in range(n_jobs)]
    scoring = worker(score_track(machine, folder))
    wall, cpu = time.perf_counter(), time.process_time()
    scoring.work(burst=True, logging_level="WARNING")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    outcomes = [machine.store.get(job.id) for job in jobs]
    inside = [outcome.timings["decode_s"] + outcome.timings["inference_s"] for outcome in outcomes if outcome]
    return {
        "jobs": n_jobs,
        "wall_ms_per_job": 1000 * wall / n_jobs,
        "cpu_ms_per_job": 1000 * cpu / n_jobs,
        "of_it_within_the_run_ms": 1000 * statistics.mean(inside),
    }
