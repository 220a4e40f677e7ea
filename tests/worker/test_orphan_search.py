"""A pass of the reconciler looks at a few jobs, and misses none in the long run. A slice is of 10 jobs here."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.core.jobs import unfinished
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.storage.folder import FolderStorage
from tests.app.records import queued, running
from worker import orphan_search
from worker.reconciler import Reconciler

SLICE = 10
N_JOBS = 10 * SLICE


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (unfinished, orphan_search):
        monkeypatch.setattr(module, "SLICE", SLICE)


@pytest.fixture
def reconciler(machine: JobStateMachine, data_dir: Path) -> Reconciler:
    return Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)


def waiting(machine: JobStateMachine, n_jobs: int = N_JOBS) -> list[Job]:
    return [queued(machine, estimated_s=1.0) for _ in range(n_jobs)]


def lose(machine: JobStateMachine, job: Job) -> None:
    _, queue, rq_job = machine.queue.keys(job.id)
    machine.redis.lrem(queue, 0, job.id)
    machine.redis.delete(rq_job)


def passes(reconciler: Reconciler, n_passes: int) -> list[str]:
    """What so many passes queue again."""
    return [job_id for _ in range(n_passes) for job_id in reconciler.run()]


def reads(machine: JobStateMachine, reconciler: Reconciler) -> tuple[int, int]:
    """The commands and the bytes that a pass has from Redis."""
    reconciler.run()
    machine.redis.config_resetstat()
    reconciler.run()
    stats = machine.redis.info("commandstats")
    n_bytes = machine.redis.info("stats")["total_net_output_bytes"]
    return sum(stats[name]["calls"] for name in stats if name != "cmdstat_info"), n_bytes - len(str(stats))


def test_a_pass_reads_as_much_when_five_times_as_many_jobs_wait(
    reconciler: Reconciler, machine: JobStateMachine
) -> None:
    waiting(machine)
    few = reads(machine, reconciler)
    waiting(machine, 4 * N_JOBS)
    many = reads(machine, reconciler)
    # Jobs of the same millisecond wait in an order of their own, so that a few more or less are looked at twice.
    assert many[0] <= few[0] + 2 * SLICE
    assert many[1] <= few[1] + 2 * SLICE * len(new_job_id())


def test_a_record_that_cannot_be_read_is_not_looked_for_in_each_pass(
    reconciler: Reconciler, machine: JobStateMachine
) -> None:
    jobs = waiting(machine)
    few = reads(machine, reconciler)
    lose(machine, jobs[-2])
    machine.redis.hset(machine.keys.record(jobs[-2].id), "status", "damaged")
    reconciler.run()
    assert reads(machine, reconciler)[0] <= few[0] + 2 * SLICE


@pytest.mark.parametrize("at", [0, 3 * SLICE, N_JOBS - 1])
def test_a_job_that_the_queue_lacks_is_found_by_the_counts(
    reconciler: Reconciler, machine: JobStateMachine, at: int
) -> None:
    jobs = waiting(machine)
    lose(machine, jobs[at])
    assert passes(reconciler, 2) == [jobs[at].id]
    assert reconciler.queue.rq.job_ids == [job.id for job in jobs]


@pytest.mark.parametrize("at", [SLICE, 5 * SLICE + 3])
def test_a_job_is_found_in_the_end_though_the_counts_agree(
    reconciler: Reconciler, machine: JobStateMachine, at: int
) -> None:
    jobs = waiting(machine)
    lose(machine, jobs[at])
    machine.redis.rpush(reconciler.queue.rq.key, new_job_id())
    assert passes(reconciler, N_JOBS // SLICE + 2) == [jobs[at].id]


def test_a_queue_in_another_order_is_left_as_it_is(reconciler: Reconciler, machine: JobStateMachine) -> None:
    order = [job.id for job in reversed(waiting(machine))]
    machine.redis.delete(reconciler.queue.rq.key)
    machine.redis.rpush(reconciler.queue.rq.key, *order)
    assert passes(reconciler, N_JOBS // SLICE + 2) == []
    assert reconciler.queue.rq.job_ids == order


def test_a_run_that_the_index_of_runs_has_lost_is_found(reconciler: Reconciler, machine: JobStateMachine) -> None:
    run = lost_run(machine)
    waiting(machine)
    machine.redis.delete(machine.keys.running)
    assert passes(reconciler, 2) == [run.id]


def test_a_job_that_waits_in_front_for_another_run_is_queued_once(
    reconciler: Reconciler, machine: JobStateMachine
) -> None:
    run, others = lost_run(machine), waiting(machine)
    assert passes(reconciler, 5) == [run.id]
    assert in_queue(reconciler) == [run.id, *(job.id for job in others)]


def test_all_that_is_overdue_is_stopped_by_one_pass(reconciler: Reconciler, machine: JobStateMachine) -> None:
    run = running(machine)
    machine.redis.zadd(machine.keys.deadlines, {run.id: 1.0})
    late = [queued(machine, deadline=1.0) for _ in range(3 * SLICE)]
    on_time = queued(machine)
    reconciler.run()
    assert {machine.store.get(job.id).status for job in late} == {"canceled"}  # type: ignore[union-attr]
    assert [machine.store.get(job.id).status for job in (run, on_time)] == ["running", "queued"]  # type: ignore[union-attr]


def lost_run(machine: JobStateMachine) -> Job:
    """A job whose worker died in the middle of it."""
    job = queued(machine)
    lose(machine, job)
    run = machine.start(job.id, max_attempts=3, lease_s=-1)
    assert run
    return run


def in_queue(reconciler: Reconciler) -> Sequence[str]:
    return list(reconciler.queue.rq.job_ids)


@pytest.mark.parametrize("n_passes", [3, 9])
@pytest.mark.parametrize("budget_s", [0.0, 60.0])
def test_a_lost_list_comes_back_in_its_order_wherever_the_search_has_come_to(
    reconciler: Reconciler, machine: JobStateMachine, n_passes: int, budget_s: float
) -> None:
    """With a budget of 0, each pass looks at one window beside the front."""
    jobs = waiting(machine)
    passes(reconciler, n_passes)
    machine.redis.delete(machine.queue.rq.key, *(machine.queue.keys(job.id)[-1] for job in jobs))
    reconciler.budget_s = budget_s
    passes(reconciler, 3 * N_JOBS // SLICE)
    assert machine.queue.rq.job_ids == [job.id for job in jobs]
