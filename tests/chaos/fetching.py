"""`python -m tests.chaos.fetching --jobs 300 --kills 40`: fetchers killed at random, and sources that misbehave.

Each job must come to the one end that its source leaves to it: its track is in storage and it is in the queue once, or
it has failed with the right code. Nothing that the rules forbid may be called.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.cli.serving.embedded_redis import EmbeddedRedis
from app.core.jobs.models import Job, JobState, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.client import connect
from app.core.storage.folder import FolderStorage
from tests.app.egress.servers import receiver
from tests.app.egress.sources import Source, source
from tests.app.records import found
from tests.conftest import audio_files, state_machine
from worker.reconciler import Reconciler

#: What a source does, how often that is drawn, and the code with which the job fails, if it does.
KINDS: dict[str, tuple[int, str | None]] = {
    "track": (8, None),
    "second": (2, None),
    "flaky": (2, None),
    "slow": (2, None),
    "recovers": (2, None),
    "gone": (1, "url_status"),
    "redirect": (1, "url_status"),
    "text": (1, "unsupported_media_type"),
    "huge": (1, "url_too_large"),
    "endless": (1, "url_too_large"),
    "canary": (1, "url_forbidden"),
}
N_FETCHERS = 2
WAIT_S = 300.0
PROGRAM = """
from app.egress.fetcher import FetchTimes
from app.egress.process import Pace, main
main(Pace(fetch_times=FetchTimes(lease_s=1.5, pauses_s=(0.05,) * 60)))
"""


@dataclass(frozen=True)
class Outcome:
    """What came of a campaign."""

    ends: Counter[str]
    n_kills: int
    seconds: float


def run(directory: Path, *, n_jobs: int, n_kills: int, seed: int) -> Outcome:
    """One campaign. Raises `AssertionError` where something is not as it must be."""
    chance, began = random.Random(seed), time.monotonic()
    with (
        EmbeddedRedis(directory / "redis") as redis,
        connect(redis.url, max_retries=5) as client,
        receiver("127.0.0.2") as canary,
        source(redirect_to=f"http://127.0.0.2:{canary.port}/") as server,
    ):
        machine, storage = state_machine(client, result_ttl_s=3600), FolderStorage(directory / "data" / "audio")
        jobs = [_create(machine, _url(server, canary.port, kind, n)) for n, kind in enumerate(_drawn(chance, n_jobs))]
        with _fetchers(directory, redis.url) as fetchers:
            killed = fetchers.kill_until(lambda: _all_settled(machine, jobs), chance, n_kills)
        ends = Counter(_check(machine, storage, kind, job) for kind, job in jobs)
        _check_nothing_else_is_left(machine, storage, jobs)
        assert canary.calls == []
    return Outcome(ends, killed, round(time.monotonic() - began, 1))


def _drawn(chance: random.Random, n_jobs: int) -> list[str]:
    return chance.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()], k=n_jobs)


def _url(server: Source, canary_port: int, kind: str, n: int) -> tuple[str, str]:
    return kind, f"http://127.0.0.2:{canary_port}/" if kind == "canary" else server.url(f"{kind}-{n}")


def _create(machine: JobStateMachine, drawn: tuple[str, str]) -> tuple[str, Job]:
    (kind, url), job_id = drawn, new_job_id()
    return kind, machine.create(Job(id=job_id, storage_key=job_id, source={"url": url}))[0]


def _is_settled(job: Job) -> bool:
    return job.status.done or job.source is None


def _all_settled(machine: JobStateMachine, jobs: Sequence[tuple[str, Job]]) -> bool:
    return all(_is_settled(found(machine, job)) for _, job in jobs)


def _check(machine: JobStateMachine, storage: FolderStorage, kind: str, job: Job) -> str:
    """That a job has come to its end; which that is."""
    after, (_, code) = found(machine, job), KINDS[kind]
    if code is not None:
        assert (after.status, (after.error or {}).get("code")) == (JobState.FAILED, code), kind
        return code
    assert after.status is JobState.QUEUED, (kind, after.error)
    with storage.open(after.storage_key) as file:
        assert hashlib.sha256(file.read()).hexdigest() == after.audio["sha256"]
    return "queued"


def _check_nothing_else_is_left(
    machine: JobStateMachine, storage: FolderStorage, jobs: Sequence[tuple[str, Job]]
) -> None:
    """Each job is in the queue once, and what is in storage belongs to one, once the reconciler has been there."""
    after = [found(machine, job) for _, job in jobs]
    queued = {job.id: job.storage_key for job in after if job.status is JobState.QUEUED}
    reconciler = Reconciler(machine=machine, storage=storage, max_attempts=3, orphan_grace_s=0.0)
    assert [reconciler.run() for _ in range(3)] == [[], [], []]
    assert sorted(machine.queue.rq.job_ids) == sorted(queued)
    # A fetcher that was killed may leave a file more, which goes with its job, or by its age.
    assert {path.name for path in audio_files(storage.directory)} >= set(queued.values())
    assert not machine.redis.keys(f"{machine.keys.fetch_prefix}*")


class Fetchers:
    """Processes that fetch, each started again when it was killed."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self.processes = [self._start() for _ in range(N_FETCHERS)]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as stderr:
            return subprocess.Popen([sys.executable, "-c", PROGRAM], env=self._environment, stderr=stderr)

    def kill_until(self, is_over: Callable[[], bool], chance: random.Random, n_kills: int) -> int:
        """Kill one now and then, so often at most, until it is over; how often that was."""
        deadline, n_killed = time.monotonic() + WAIT_S, 0
        next_kill = time.monotonic() + chance.uniform(0.5, 2.0)
        while not is_over():
            assert time.monotonic() < deadline, "the jobs do not come to their ends"
            time.sleep(0.1)
            if n_killed < n_kills and time.monotonic() > next_kill:
                index = chance.randrange(N_FETCHERS)
                self.processes[index].kill()
                self.processes[index].wait()
                self.processes[index] = self._start()
                n_killed, next_kill = n_killed + 1, time.monotonic() + chance.uniform(0.5, 2.0)
        return n_killed

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        # One that has only just begun does not know the signal yet.
        assert {process.wait(60) for process in self.processes} <= {0, -signal.SIGTERM}


@contextmanager
def _fetchers(directory: Path, redis_url: str) -> Iterator[Fetchers]:
    settings = {
        "APEX_REDIS_URL": redis_url,
        "APEX_DATA_DIR": str(directory / "data"),
        "APEX_AUDIO_URL_HOSTS": "127.0.0.1,127.0.0.2",
        "APEX_EGRESS_NETWORKS": "127.0.0.1/32",
        "APEX_UPLOAD_IDLE_TIMEOUT_S": "0.5",
        "APEX_MAX_UPLOAD_BYTES": str(2**20),
        "APEX_LOG_LEVEL": "DEBUG",
    }
    log = directory / "log"
    fetchers = Fetchers(os.environ | settings, log)
    try:
        yield fetchers
        fetchers.stop()
    finally:
        for process in fetchers.processes:
            process.kill()
            process.wait()
    assert "hush-hush" not in log.read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        outcome = run(Path(directory), n_jobs=options.jobs, n_kills=options.kills, seed=options.seed)
    ends = ", ".join(f"{n} {end}" for end, n in sorted(outcome.ends.items()))
    sys.stdout.write(f"{options.jobs} jobs, {outcome.n_kills} kills, {outcome.seconds} s: {ends}\n")


if __name__ == "__main__":
    main()
