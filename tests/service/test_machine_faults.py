"""A worker whose machine is at fault, for real where that is permitted: it pauses, goes on by itself, no job fails."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from app.core.jobs.models import Job, JobState
from app.core.jobs.state_machine import JobStateMachine
from model.audio.decoder import Decoder
from model.audio.sandbox import forkserver
from model.domain import AudioLimits
from tests.app.api.live import eventually
from tests.e2e.service import children, command
from tests.installed import installed
from tests.model import tracks
from tests.mounts import filled
from tests.service.test_disk import MIB, failing, small_disk
from tests.worker.fakes import accepted, outcome, score_track, stored
from tests.worker.workers import worker
from worker.machine_faults import Pause
from worker.process import probe
from worker.reconciler import Reconciler
from worker.score_track import ScoreTrack

N_JOBS = 12
TRACK = tracks.wav(tracks.ramp(2 * 8_000), 8_000)

Fault = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    for mode in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)
        if mode == "ro":
            yield


@contextmanager
def missing(disk: Path) -> Iterator[None]:
    """The audio is not where it should be."""
    (disk / "audio").rename(disk / "elsewhere")
    yield
    (disk / "elsewhere").rename(disk / "audio")


@contextmanager
def stopped(_: Path) -> Iterator[None]:
    """It is not even let go on: a new one takes its place."""
    os.kill(fork_server(), signal.SIGSTOP)
    yield


def refused(calls: str, error: str) -> Fault:
    """The kernel refuses calls of the fork server and of its children."""

    def refusing(_: Path) -> AbstractContextManager[None]:
        installed("strace")
        return failing(fork_server(), f"{calls}:error={error}")

    return refusing


def fork_server() -> int:
    [pid] = [pid for pid in children(os.getpid()) if "decoder_child" in command(pid)]
    return pid


FAULTS: dict[str, Fault] = {
    "a read-only folder": read_only,
    "a full disk": filled,
    "a missing folder": missing,
    "a fork server that is stopped": stopped,
    "no process to be had": refused("clone,clone3,fork,vfork", "EAGAIN"),
    "no memory for a process": refused("clone,clone3,fork,vfork", "ENOMEM"),
    "a disk that cannot be read": refused("pread64", "EIO"),
    "a disk that cannot be written": refused("write", "EIO"),
}


@pytest.fixture(autouse=True)
def signals_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(forkserver, "_FORK_TIMEOUT_S", 1.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def real_task(machine: JobStateMachine, data_dir: Path) -> Iterator[ScoreTrack]:
    """The real decoder and storage with a fake scorer."""
    task = score_track(machine, data_dir)
    (data_dir / "scratch").mkdir()
    with Decoder(AudioLimits(), scratch_dir=data_dir / "scratch") as task.decoder:
        task.pause = Pause(partial(probe, task.deployment, task.storage, task.decoder))
        yield task


def accepted_track(machine: JobStateMachine, data_dir: Path) -> Job:
    job = accepted(machine, data_dir)
    (data_dir / "audio" / job.id).write_bytes(TRACK)
    return job


def work_until(task: ScoreTrack, over: Callable[[], None]) -> None:
    """Work on this thread beside a reconciler, until `over` returns on another."""

    def reconcile() -> None:
        reconciler = Reconciler(machine=task.machine, storage=task.storage, max_attempts=3)
        while not done.wait(0.1):
            reconciler.run()

    def stop() -> None:
        try:
            over()
        finally:
            done.set()
            os.kill(os.getpid(), signal.SIGTERM)

    done = threading.Event()
    threads = [threading.Thread(target=target) for target in (reconcile, stop)]
    for thread in threads:
        thread.start()
    worker(task, heartbeat_ttl_s=10).work(logging_level="CRITICAL")
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("fault", FAULTS)
def test_no_job_fails_for_a_fault_of_the_machine(machine: JobStateMachine, data_dir: Path, fault: str) -> None:
    with small_disk(data_dir, 40 * MIB), real_task(machine, data_dir) as task, ExitStack() as at_fault:
        jobs = [accepted_track(machine, data_dir) for _ in range(N_JOBS)]
        at_fault.enter_context(FAULTS[fault](data_dir))

        def end_the_fault_and_wait() -> None:
            eventually(lambda: machine.queue.workers().paused)
            at_fault.close()
            eventually(lambda: all(finished(machine, job) for job in jobs))

        work_until(task, end_the_fault_and_wait)
        found = [outcome(machine, job) for job in jobs]
        assert [(job.status, job.attempts_used) for job in found] == [(JobState.SUCCEEDED, 1)] * N_JOBS
        assert sum(job.preemptions for job in found) > 0
        assert stored(data_dir) == []


def finished(machine: JobStateMachine, job: Job) -> bool:
    return outcome(machine, job).status.done


def test_a_folder_of_audio_that_is_read_only_keeps_no_job_from_its_end(
    machine: JobStateMachine, data_dir: Path
) -> None:
    with small_disk(data_dir / "audio", 4 * MIB) as audio_dir, real_task(machine, data_dir) as task:
        job = accepted_track(machine, data_dir)
        with read_only(audio_dir):
            task(job.id)
        assert outcome(machine, job).status is JobState.SUCCEEDED
        assert not task.pause.active
        assert stored(data_dir) == [job.id]
        reconciler = Reconciler(machine=machine, storage=task.storage, max_attempts=3, orphan_grace_s=-1.0)
        reconciler.run()
        assert stored(data_dir) == []
