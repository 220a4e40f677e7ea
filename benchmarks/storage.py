"""What an object store costs beside a folder on the same disk: uploads per second, and a job's time in a worker.

    python -m benchmarks.storage

The store is SeaweedFS on this machine, so it takes processor time from the service; a store of its own does not. It
does not sync its files as the folder does. Rounds go through both in turns; the best of each counts. A job's overhead
is the median time in a worker, with a decoder and a scorer that do nothing: what remains is
opening the audio, the record, and deleting the audio. Results go to `benchmarks/results/storage.json`.
"""

import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import typer
from redis import Redis
from rich.progress import track

from app.cli.serving.embedded_redis import EmbeddedRedis
from app.cli.serving.embedded_s3 import BUCKET, embedded_s3
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.settings import WorkerSettings
from app.core.storage.keys import job_id_of
from app.core.storage.opening import open_storage
from benchmarks.uploads import KB, MB, Row, form, in_turns, our_service, report, uploads_per_s
from tests.conftest import state_machine
from tests.worker.fakes import score_track
from worker.process import audio_files
from worker.score_track import ScoreTrack
from worker.watchdog import Watchdog

RESULTS = Path(__file__).parent / "results" / "storage.json"
#: Bytes of a file, and how many of them make a round.
UPLOADS = {200 * KB: 320, 5 * MB: 64, 20 * MB: 32}
JOB_BYTES = 5 * MB
JOBS = 40
#: Seconds of the model in a job of the second kind, during which the next track can be fetched.
MODEL_S = 0.3
SEGMENTS = 3


def upload_rows(place: Path, rounds: int) -> Iterator[Row]:
    with our_service(place) as folder, our_service(place, APEX_STORAGE_URL=f"s3://{BUCKET}/uploads") as store:
        servers = {"folder": folder, "S3": store}
        for n_bytes, n_uploads in UPLOADS.items():
            found = in_turns(servers, rounds, partial(uploads_per_s, body=form(n_bytes), n_uploads=n_uploads))
            best = {name: max(values) for name, values in found.items()}
            yield Row(f"uploads of {n_bytes // KB} kB", "1/s", best, found)


def job_rows(place: Path, rounds: int) -> Iterator[Row]:
    urls = {"folder": (place / "folder").as_uri(), "S3": f"s3://{BUCKET}/jobs"}
    for model_s, what in ((0.0, "with no model"), (MODEL_S, f"beside {MODEL_S} s of a model")):
        found: dict[str, list[float]] = {name: [] for name in urls}
        for number in track(range(-1, rounds), description="jobs", transient=True):
            for name, url in urls.items():
                value = job_ms(url, Path(tempfile.mkdtemp(dir=place)), model_s=model_s)
                if number >= 0:
                    found[name].append(value)
        best = {name: min(values) for name, values in found.items()}
        yield Row(f"a job of {JOB_BYTES // KB} kB, {what}", "ms", best, found)


def job_ms(storage_url: str, directory: Path, *, model_s: float) -> float:
    """The median time of a job in a worker, less that of its model."""
    settings = WorkerSettings(data_dir=directory, storage_url=storage_url)
    storage = open_storage(settings)
    with EmbeddedRedis(directory / "redis") as embedded, Redis.from_url(embedded.url) as redis:
        jobs = state_machine(redis)
        ids = []
        for _ in range(JOBS):
            with storage.receive(new_job_id()) as part:
                part.append(secrets.token_bytes(JOB_BYTES))
                part.commit()
                job = Job(id=job_id_of(part.key), storage_key=part.key, audio={"sha256": part.sha256})
            ids.append(jobs.create(job)[0].id)
        settings.scratch_dir.mkdir()
        audio = audio_files(settings, storage, jobs, Watchdog(600))
        pause = partial(time.sleep, model_s / SEGMENTS)
        task = score_track(jobs, directory, storage=storage, audio=audio, on_segment=pause)
        return statistics.median(_timed_s(task, redis, jobs, job_id) - model_s for job_id in ids) * 1000


def _timed_s(task: ScoreTrack, redis: Redis, jobs: JobStateMachine, job_id: str) -> float:
    redis.lrem(jobs.queue.rq.key, 1, job_id)
    began = time.perf_counter()
    task(job_id)
    return time.perf_counter() - began


def main(rounds: int = 5, directory: Path | None = None) -> None:
    """Compare the two. Files go below DIRECTORY, so choose one on the disk of interest."""
    with tempfile.TemporaryDirectory(prefix="apex-storage-", dir=directory) as name:
        place = Path(name)
        with embedded_s3(place / "s3") as environment:
            os.environ |= environment
            report([*upload_rows(place, rounds), *job_rows(place, rounds)], RESULTS)


if __name__ == "__main__":
    typer.run(main)
