"""Real worker processes under a supervisor, and the jobs that take them down."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from app.core.jobs.models import Job, JobState, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.settings import WorkerSettings
from app.core.storage.folder import FolderStorage
from tests.app.api.live import eventually
from tests.chaos import process
from tests.chaos.scripted import Script, scores
from tests.service.test_disk import failing
from tests.worker.fakes import outcome, stored
from worker.main import processes, supervised
from worker.supervisor import Supervisor

pytestmark = pytest.mark.slow

#: A busy machine starts a process slowly.
PATIENCE_S = 60.0


class Bench:
    """A machine, a queue and the worker processes on them."""

    def __init__(self, machine: JobStateMachine, data_dir: Path, supervisor: Supervisor) -> None:
        self.machine = machine
        self.storage = FolderStorage(data_dir / "audio")
        self.supervisor = supervisor

    def submit(self, script: Script) -> Job:
        """What the front end does with a track."""
        job_id = new_job_id()
        job = Job(id=job_id, storage_key=job_id, external_id=script.name)
        with self.storage.receive(job.id) as part:
            part.append(script.track())
            part.commit()
        self.machine.create(job)
        return job

    def wait(self, job: Job, *states: JobState) -> Job:
        """The job once it is in one of the states."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := outcome(self.machine, job)).status not in states:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    def over(self, job: Job) -> Job:
        return self.wait(job, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)

    def child_pid(self) -> int | None:
        [child] = self.supervisor.children
        return child.process.pid if child.process else None

    def pid(self) -> int:
        pid = self.child_pid()
        assert pid
        return pid


@pytest.fixture
def bench(machine: JobStateMachine, redis_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, value in {"REDIS_URL": redis_url, "DATA_DIR": data_dir, "LOG_LEVEL": "WARNING"}.items():
        monkeypatch.setenv(f"APEX_{name}", str(value))
    monkeypatch.setenv("APEX_STALL_TIMEOUT_S", "3")
    monkeypatch.setenv("APEX_HEARTBEAT_TTL_S", "600")  # no test waits for the end of a lease
    settings = WorkerSettings()
    supervisor = supervised(settings, processes(settings, command=process.COMMAND))
    supervisor.every_s = 0.5
    with running(supervisor):
        yield Bench(machine, data_dir, supervisor)


@contextmanager
def running(supervisor: Supervisor) -> Iterator[Supervisor]:
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join()


def test_the_job_of_a_killed_worker_runs_again_before_its_lease_ends(bench: Bench, data_dir: Path) -> None:
    job = bench.submit(Script("long", run_s=3.0, n_segments=30))
    bench.wait(job, JobState.RUNNING)
    os.kill(bench.pid(), signal.SIGKILL)
    over = bench.over(job)
    assert (over.status, over.attempt) == (JobState.SUCCEEDED, 2)
    assert over.result
    assert over.result["scores"] == scores(Script("long", run_s=3.0, n_segments=30).track())
    eventually(lambda: not stored(data_dir))  # the record tells the end before the file is deleted


@pytest.mark.needs("strace")
def test_a_worker_that_gets_no_thread_for_its_heartbeat_charges_no_job(bench: Bench) -> None:
    """It begins no run, and pauses."""
    bench.over(bench.submit(Script("before")))
    with failing(bench.pid(), "clone,clone3:error=EAGAIN"):
        job = bench.submit(Script("without a heartbeat"))
        eventually(lambda: bench.machine.queue.workers().paused)
    over = bench.over(job)
    assert (over.status, over.attempts_used) == (JobState.SUCCEEDED, 1)


POISON = {
    "segfault": "worker_lost",
    "exit": "worker_lost",
    "out of memory": "worker_lost",
    "hang": "worker_lost",
    "sys.exit": "internal_error",
    "huge error": "internal_error",
    "unpicklable error": "internal_error",
}


@pytest.mark.parametrize("end", POISON)
def test_a_poison_job_fails_and_its_neighbours_do_not(bench: Bench, end: str) -> None:
    before, poison, after = (bench.submit(Script(f"{end} {i}", end=e)) for i, e in enumerate(("score", end, "score")))
    failed = bench.over(poison)
    assert failed.error
    assert (failed.error["code"], failed.attempt) == (POISON[end], 3)
    assert [(bench.over(job).status, bench.over(job).attempt) for job in (before, after)] == [
        (JobState.SUCCEEDED, 1)
    ] * 2


def test_a_frozen_worker_loses_its_job_and_writes_nothing_when_it_thaws(bench: Bench, redis: Redis) -> None:
    job = bench.submit(Script("frozen", run_s=2.0, n_segments=20))
    bench.wait(job, JobState.RUNNING)
    os.kill(bench.pid(), signal.SIGSTOP)
    redis.hset(f"apex:job:{job.id}", "lease_until", "0")
    taken = bench.machine.start(job.id, max_attempts=3, lease_s=60)
    os.kill(bench.pid(), signal.SIGCONT)
    time.sleep(3)
    assert taken
    assert outcome(bench.machine, job) == taken
