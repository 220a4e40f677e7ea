"""The RQ subclass: it beats while it works, gives up what it cannot finish, and RQ still has what it overrides."""

import errno
import inspect
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from redis import Redis
from rq import Worker
from rq.worker import SimpleWorker, WorkerStatus

from app.core.jobs import queue as score_queue
from app.core.jobs.models import JobState
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from app.core.signals import INSTANCE_ID_VAR
from app.core.storage.folder import MARKER
from app.core.worker_info import Published, WorkerInfo
from model.domain import AudioSilent
from tests.app.records import enqueue_by_rq, is_orphaned
from tests.conftest import KEYS
from tests.worker.fakes import accepted, outcome, raising, score_track, stored
from tests.worker.workers import worker
from worker import machine_faults
from worker.machine_faults import Pause
from worker.reconciler import Reconciler
from worker.rq import worker as rq_worker


@pytest.fixture
def queue(redis: Redis) -> ScoreQueue:
    return ScoreQueue(redis, name="scores")


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_queued_job_is_run_and_leaves_nothing_in_rq(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    worker(score_track(machine, data_dir)).work(burst=True, logging_level="WARNING")
    assert outcome(machine, job).status is JobState.SUCCEEDED
    assert [
        key for pattern in ("rq:job:*", "rq:exec*", "rq:queue:*", "rq:wip:*") for key in machine.redis.keys(pattern)
    ] == []


def test_a_job_that_an_older_front_end_queued_is_run(
    machine: JobStateMachine, queue: ScoreQueue, data_dir: Path
) -> None:
    """It let RQ write the queue's entry."""
    job = accepted(machine, data_dir)
    queue.rq.empty()
    enqueue_by_rq(queue, job.id)
    worker(score_track(machine, data_dir)).work(burst=True, logging_level="WARNING")
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_job_that_failed_as_expected_is_not_run_again(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    fail = partial(raising, AudioSilent("Every sample is the same."))
    worker(score_track(machine, data_dir, on_decode=fail)).work(burst=True, logging_level="WARNING")
    assert outcome(machine, job).attempt == 1


def test_a_surprise_is_none_of_rqs_business(machine: JobStateMachine, data_dir: Path) -> None:
    def bug() -> None:
        raise RuntimeError("x" * 1_000_000)

    job = accepted(machine, data_dir)
    worker(score_track(machine, data_dir, on_decode=bug)).work(burst=True, logging_level="CRITICAL")
    over = outcome(machine, job)
    assert (over.status, over.attempt) == (JobState.QUEUED, 1)
    assert machine.redis.keys("rq:failed:*") == machine.redis.keys("rq:job:*") == []


def test_a_long_job_stays_in_the_hands_of_its_worker(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    held = []

    def slow_segment() -> None:
        time.sleep(0.9)
        held.append(not is_orphaned(machine, job))

    task = score_track(machine, data_dir, on_segment=slow_segment, lease_s=1)
    worker(task).work(burst=True, logging_level="WARNING")
    assert held == [True] * 3
    assert outcome(machine, job).attempt == 1


def test_a_run_that_takes_too_long_fails(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    task = score_track(machine, data_dir, on_segment=lambda: time.sleep(5))
    worker(task, job_timeout_s=1).work(burst=True, logging_level="WARNING")
    over = outcome(machine, job)
    assert over.error
    assert (over.status, over.error["code"], over.attempt) == (JobState.FAILED, "timed_out", 1)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_faults, "BACKOFF_S", (0.05,))


def work_while(machine: JobStateMachine, data_dir: Path, probe: Callable[[], None]) -> None:
    """Work until the queue is empty; the first run meets a full disk, and the probe says how long that lasts."""
    faults = [FULL]

    def meet() -> None:
        if faults:
            raise faults.pop()

    task = score_track(machine, data_dir, on_decode=meet)
    task.pause = Pause(probe)
    worker(task).work(burst=True, logging_level="CRITICAL")


def test_a_worker_takes_no_job_while_its_machine_is_at_fault_and_goes_on_by_itself(
    machine: JobStateMachine,
    queue: ScoreQueue,
    data_dir: Path,
    short_pauses: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rq_worker, "MIN_HEARTBEAT_GAP_S", 0.0)  # so that each heartbeat of the pause is sent
    first, second = accepted(machine, data_dir), accepted(machine, data_dir)
    seen = []

    def probe() -> None:
        seen.append((queue.workers(), outcome(machine, first).status, outcome(machine, second).status))
        if len(seen) < 3:
            raise FULL

    work_while(machine, data_dir, probe)
    paused = score_queue.Worker(is_paused=True, host=socket.gethostname())
    assert seen == [(score_queue.Workers((paused,)), JobState.QUEUED, JobState.QUEUED)] * 3
    assert outcome(machine, second).status is JobState.SUCCEEDED


def test_a_worker_that_is_refused_a_thread_goes_on_and_the_job_is_queued_again(
    machine: JobStateMachine, data_dir: Path, short_pauses: None
) -> None:
    job, task = accepted(machine, data_dir), score_track(machine, data_dir)
    under_test = worker(task)
    under_test.register_birth()
    taken = under_test.dequeue_job_and_maintain_ttl(1)
    assert taken
    before = threading.stack_size(1 << 46)  # more than the system gives to any thread
    try:
        under_test.execute_job(*taken)
    finally:
        threading.stack_size(before)
    assert task.pause.active
    reconciler = Reconciler(machine=machine, storage=task.storage, max_attempts=3)
    assert [reconciler.run(), reconciler.run()] == [[], [job.id]]
    worker(task).work(burst=True, logging_level="WARNING")
    over = outcome(machine, job)
    assert (over.status, over.attempts_used) == (JobState.SUCCEEDED, 1)


@pytest.mark.parametrize(
    "key",
    ["rq:wip:scores", "rq:queue:scores:intermediate", "rq:workers", "rq:workers:scores", "rq:failed:scores", "own"],
)
def test_a_key_of_rq_that_gets_another_type_during_a_run_does_not_end_the_worker(
    machine: JobStateMachine, data_dir: Path, key: str
) -> None:
    jobs = [accepted(machine, data_dir), accepted(machine, data_dir)]

    def damage() -> None:
        name = under_test.key if key == "own" else key
        machine.redis.delete(name)
        machine.redis.xadd(name, {"no": "type of RQ's"})

    under_test = worker(score_track(machine, data_dir, on_decode=damage))
    under_test.work(burst=True, logging_level="WARNING")
    assert [outcome(machine, job).status for job in jobs] == [JobState.SUCCEEDED] * 2


def test_a_worker_takes_no_job_while_its_storage_is_not_the_right_one(
    machine: JobStateMachine, queue: ScoreQueue, data_dir: Path, short_pauses: None
) -> None:
    """It was unmounted, say, after the start."""
    job, task = accepted(machine, data_dir), score_track(machine, data_dir)
    task.deployment.check()
    marker = data_dir / "audio" / MARKER
    marker.rename(data_dir / "unmounted")
    seen = list[tuple[int, int]]()

    def probe() -> None:
        seen.append((queue.workers().paused, outcome(machine, job).attempt))
        if len(seen) == 3:
            (data_dir / "unmounted").rename(marker)
        task.deployment.check()

    task.pause = Pause(probe, check=partial(task.deployment.check_if_older, 0.0))
    worker(task).work(burst=True, logging_level="CRITICAL")
    assert seen == [(1, 0)] * 3
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_worker_that_pauses_can_be_stopped(machine: JobStateMachine, data_dir: Path, short_pauses: None) -> None:
    first, second = accepted(machine, data_dir), accepted(machine, data_dir)

    def probe() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise FULL

    work_while(machine, data_dir, probe)
    assert [outcome(machine, job).status for job in (first, second)] == [JobState.QUEUED] * 2
    assert outcome(machine, second).attempt == 0


def test_a_worker_told_to_stop_hands_a_long_run_back(machine: JobStateMachine, data_dir: Path) -> None:
    job, next_job = accepted(machine, data_dir), accepted(machine, data_dir)

    def stop_twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    worker(score_track(machine, data_dir, on_segment=stop_twice), grace_s=0.0).work(logging_level="WARNING")
    over = outcome(machine, job)
    assert (over.status, over.attempt, over.attempts_used) == (JobState.QUEUED, 1, 0)
    assert outcome(machine, next_job).attempt == 0
    assert sorted(stored(data_dir)) == sorted([job.id, next_job.id])


def test_a_second_signal_ends_the_grace(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)

    def stop_twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    worker(score_track(machine, data_dir, on_segment=stop_twice), grace_s=60.0).work(logging_level="WARNING")
    assert (outcome(machine, job).status, outcome(machine, job).attempts_used) == (JobState.QUEUED, 0)


def test_a_supervised_worker_is_hurried_by_its_supervisor_alone(
    machine: JobStateMachine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stops a whole group sends SIGTERM, and its supervisor sends it again."""
    monkeypatch.setenv(INSTANCE_ID_VAR, "instance 1")
    patient, hurried = accepted(machine, data_dir), accepted(machine, data_dir)

    def stop(*signals: signal.Signals) -> None:
        for number in signals:
            os.kill(os.getpid(), number)

    for then in (signal.SIGTERM, signal.SIGINT):
        on_segment = partial(stop, signal.SIGTERM, then)
        worker(score_track(machine, data_dir, on_segment=on_segment), grace_s=60.0).work(logging_level="WARNING")
    assert outcome(machine, patient).status is JobState.SUCCEEDED
    assert outcome(machine, hurried).status is JobState.QUEUED


def test_a_run_that_ends_within_the_grace_is_finished(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    task = score_track(machine, data_dir, on_decode=lambda: os.kill(os.getpid(), signal.SIGTERM))
    worker(task, grace_s=20.0).work(logging_level="WARNING")
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_an_idle_worker_stops_at_once(machine: JobStateMachine, data_dir: Path) -> None:
    idle = worker(score_track(machine, data_dir))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    idle.work(logging_level="WARNING")
    assert idle.get_state() is WorkerStatus.IDLE


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("get_heartbeat_ttl", ["self", "job", "working_time"]),
        ("execute_job", ["self", "job", "queue"]),
        ("prepare_execution", ["self", "job"]),
        ("perform_job", ["self", "job", "queue", "execution"]),
        ("maintain_heartbeats", ["self", "job", "execution"]),
        ("set_state", ["self", "state", "pipeline"]),
        ("request_stop", ["self", "signum", "frame"]),
        ("subscribe", ["self"]),
        ("unsubscribe", ["self"]),
    ],
)
def test_rq_still_has_the_methods_that_we_override_or_call(method: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(SimpleWorker, method)).parameters) == parameters


def test_rq_still_asks_whether_maintenance_is_due() -> None:
    assert isinstance(inspect.getattr_static(SimpleWorker, "should_run_maintenance_tasks"), property)


def test_what_a_redis_without_its_keys_has_forgotten_is_said_again_with_the_next_heartbeat(
    machine: JobStateMachine, redis: Redis, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.rq.worker.MIN_HEARTBEAT_GAP_S", 0.0)
    living, info = worker(score_track(machine, data_dir)), WorkerInfo(redis, KEYS)
    living.published = Published({"name": "apex", "version": "1"}, ("network",))
    living.register_birth()
    redis.flushall()
    assert (machine.queue.n_workers(), info.model()) == (0, None)
    living.heartbeat()
    assert (machine.queue.n_workers(), info.model()) == (1, living.published.model)
    assert redis.get(KEYS.missing_sandbox_layers) == b'["network"]'
    assert [found.hostname for found in Worker.all(queue=machine.queue.rq)] == [living.hostname]


def test_a_heartbeat_that_comes_late_leaves_nothing_of_a_job_that_is_over(
    machine: JobStateMachine, data_dir: Path
) -> None:
    job, late = accepted(machine, data_dir), worker(score_track(machine, data_dir))
    late.register_birth()
    found = late.dequeue_job_and_maintain_ttl(1)
    assert found
    execution = late.prepare_execution(found[0])
    late.perform_job(*found, execution)
    commands = list[str]()
    with machine.redis.monitor() as monitor:  # type: ignore[no-untyped-call]
        late.maintain_heartbeats(found[0], execution)
        machine.redis.echo("over")
        while "ECHO" not in (command := monitor.next_command()["command"]):
            commands.append(command)
    assert commands
    assert not [command for command in commands if f"rq:job:{job.id}" in command]


def test_a_heartbeat_leaves_what_the_worker_that_started_last_published(
    machine: JobStateMachine, redis: Redis, data_dir: Path
) -> None:
    older, info = worker(score_track(machine, data_dir)), WorkerInfo(redis, KEYS)
    older.published = Published({"version": "1"})
    older.register_birth()
    info.publish(Published({"version": "2"}))
    older.heartbeat()
    assert info.model() == {"version": "2"}
