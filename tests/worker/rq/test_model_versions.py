"""Workers of two models side by side, as in an upgrade: a job that asks for one is run by that one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from app.core.jobs.models import Job, JobState
from app.core.jobs.state_machine import JobStateMachine
from app.core.storage.folder import FolderStorage
from app.core.worker_info import Published
from tests.conftest import KEYS
from tests.worker.fakes import FakeCard, FakeScorer, accepted, outcome, score_track
from tests.worker.workers import worker
from worker.reconciler import Reconciler
from worker.score_track import ScoreTrack

DAY_S = 24 * 60 * 60


def of_model(machine: JobStateMachine, data_dir: Path, version: str, ran: list[str] | None = None) -> ScoreTrack:
    """The task of a worker of this model, which notes the jobs that it scores."""
    task = score_track(machine, data_dir, on_segment=lambda: note(task, ran))
    task.scorer = FakeScorer(task.scorer.on_segment, FakeCard(version))  # type: ignore[attr-defined]
    return task


def note(task: ScoreTrack, ran: list[str] | None) -> None:
    if ran is not None and task._running and task._running.id not in ran:
        ran.append(task._running.id)


def work(task: ScoreTrack) -> None:
    worker(task).work(burst=True, logging_level="WARNING")


def waits_for_model(machine: JobStateMachine, job: Job) -> bool:
    now = outcome(machine, job)
    return (now.status, now.status_reason, now.attempt) == (JobState.QUEUED, "waiting_for_model", 0)


def test_each_job_is_run_by_the_model_that_it_asks_for(machine: JobStateMachine, data_dir: Path) -> None:
    of_first, of_second, of_any = [], [], []
    for _ in range(4):
        of_first.append(accepted(machine, data_dir, model_version="first").id)
        of_second.append(accepted(machine, data_dir, model_version="second").id)
        of_any.append(accepted(machine, data_dir).id)
    by_first: list[str] = []
    by_second: list[str] = []
    work(of_model(machine, data_dir, "first", by_first))
    work(of_model(machine, data_dir, "second", by_second))
    assert [job_id for job_id in by_first if job_id not in of_any] == of_first, "in their order"
    assert by_second == of_second
    assert sorted(by_first + by_second) == sorted(of_first + of_second + of_any)
    jobs = machine.store.get_many(by_first + by_second)
    assert {(job.status, job.status_reason, job.attempt) for job in jobs if job} == {(JobState.SUCCEEDED, None, 1)}


def test_a_job_whose_model_is_away_waits_says_why_and_keeps_nobody_busy(
    machine: JobStateMachine, data_dir: Path, redis: Redis
) -> None:
    job, other = accepted(machine, data_dir, model_version="away"), accepted(machine, data_dir, tenant="b")
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    for _ in range(3):
        work(of_model(machine, data_dir, "here"))
        assert reconciler.run() == []
    assert waits_for_model(machine, job)
    assert outcome(machine, other).status is JobState.SUCCEEDED
    assert redis.zcard(KEYS.waiting) == 0, "it holds up nobody's turn"
    assert redis.llen("rq:queue:scores") == 0
    work(of_model(machine, data_dir, "away"))
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_job_that_the_list_of_its_model_has_lost_comes_to_a_worker_again(
    machine: JobStateMachine, data_dir: Path, redis: Redis
) -> None:
    job = accepted(machine, data_dir, model_version="away")
    work(of_model(machine, data_dir, "here"))
    redis.delete(machine.queue.model_queue_key("away"))
    redis.hset(KEYS.record(job.id), "lease_until", "0")
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    assert [reconciler.run(), reconciler.run()] == [[], [job.id]]
    work(of_model(machine, data_dir, "away"))
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_the_reconciler_counts_a_job_that_waits_for_its_model_only_while_it_does(
    machine: JobStateMachine, data_dir: Path
) -> None:
    job = accepted(machine, data_dir, model_version="away")
    work(of_model(machine, data_dir, "here"))
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    reconciler.run()
    assert reconciler.search.unreadable == {job.id}
    work(of_model(machine, data_dir, "away"))
    reconciler.run()
    assert reconciler.search.unreadable == set()


def test_a_run_that_died_is_left_to_its_model_too(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir, model_version="first")
    assert machine.start(job.id, max_attempts=3, lease_s=-1, worker="dead", model_version="first")
    assert machine.start(job.id, max_attempts=3, lease_s=60, model_version="second") is None
    assert outcome(machine, job).status is JobState.QUEUED
    again = machine.start(job.id, max_attempts=3, lease_s=60, model_version="first")
    assert again
    assert (again.attempt, again.status_reason) == (2, None)


@pytest.fixture
def waiting(machine: JobStateMachine, data_dir: Path) -> Iterator[Job]:
    job = accepted(machine, data_dir, model_version="away")
    work(of_model(machine, data_dir, "here"))
    assert waits_for_model(machine, job)
    yield job
    assert machine.redis.llen(machine.queue.model_queue_key("away")) == 0


def test_a_job_that_waits_for_its_model_can_be_canceled(machine: JobStateMachine, waiting: Job) -> None:
    machine.cancel(waiting)
    assert outcome(machine, waiting).status is JobState.CANCELED


def test_a_job_that_waits_for_its_model_can_be_deleted(machine: JobStateMachine, waiting: Job) -> None:
    machine.purge(waiting)
    assert machine.store.get(waiting.id) is None


def test_a_job_whose_model_never_comes_fails_after_a_day(
    machine: JobStateMachine, data_dir: Path, redis: Redis, waiting: Job
) -> None:
    redis.hset(KEYS.record(waiting.id), "created_at", str(redis.time()[0] - DAY_S - 1))
    of_model(machine, data_dir, "here")(waiting.id)
    failed = outcome(machine, waiting)
    assert failed.error
    assert (failed.status, failed.error["code"]) == (JobState.FAILED, "model_unavailable")


def test_workers_are_counted_by_their_models(machine: JobStateMachine, data_dir: Path) -> None:
    for version, missing in (("first", ()), ("first", ("network",)), ("second", ())):
        each = worker(of_model(machine, data_dir, version))
        each.published = Published({"version": version}, missing)
        each.register_birth()
        each.heartbeat()
    models = machine.queue.workers().models
    assert {version: len(each) for version, each in models.items()} == {"first": 2, "second": 1}
    assert sorted(each.missing_layers or () for each in models["first"]) == [(), ("network",)]
