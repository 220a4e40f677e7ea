"""Records, queue and stored audio come back in step, whatever happened between them."""

import errno
import os
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from redis import Redis
from rq.job import Job as RqJob

from app.core.jobs.models import Job, JobState
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import SLICE, UnfinishedJobs
from app.core.storage.folder import FolderStorage
from model.domain import AudioSilent
from tests.app.records import RESULT, enqueue_by_rq, queued
from tests.conftest import KEYS, state_machine
from tests.worker.fakes import accepted, nothing, outcome, raising, score_track, stored
from tests.worker.workers import worker
from worker.machine_faults import HAND_BACK_S
from worker.reconciler import Reconciler


@pytest.fixture
def reconciler(machine: JobStateMachine, data_dir: Path) -> Reconciler:
    return Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)


def unqueued(machine: JobStateMachine, data_dir: Path) -> Job:
    """A job that RQ does not know."""
    job = accepted(machine, data_dir)
    _, queue, rq_job = machine.queue.keys(job.id)
    machine.redis.lrem(queue, 0, job.id)
    machine.redis.delete(rq_job)
    return job


def lost_run(machine: JobStateMachine, data_dir: Path) -> Job:
    """A job whose worker died in the middle of it."""
    job = unqueued(machine, data_dir)
    machine.start(job.id, max_attempts=3, lease_s=-1)
    return job


def test_a_job_that_was_never_queued_is_queued(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    job = unqueued(machine, data_dir)
    assert reconciler.run() == []
    assert reconciler.run() == [job.id]
    assert len(reconciler.queue.rq) == 1


def test_a_job_that_a_fault_of_the_machine_ended_is_queued_behind_the_others(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    job, other = unqueued(machine, data_dir), accepted(machine, data_dir)
    score_track(machine, data_dir, on_decode=partial(raising, OSError(errno.EIO, "a broken disk")))(job.id)
    assert [reconciler.run(), reconciler.run()] == [[], [job.id]]
    assert reconciler.queue.rq.job_ids == [other.id, job.id]


def test_a_job_that_waits_in_the_queue_is_left_alone(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    accepted(machine, data_dir)
    assert [reconciler.run(), reconciler.run()] == [[], []]
    assert len(reconciler.queue.rq) == 1


def test_a_job_in_a_live_workers_hands_is_left_alone(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    machine.start(accepted(machine, data_dir).id, max_attempts=3, lease_s=60)
    assert [reconciler.run(), reconciler.run()] == [[], []]


def test_a_lost_run_is_queued_again(reconciler: Reconciler, machine: JobStateMachine, data_dir: Path) -> None:
    job = lost_run(machine, data_dir)
    reconciler.run()
    assert reconciler.run() == [job.id]
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).attempt == 2
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_an_id_that_rq_still_knows_is_queued_again(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    job = lost_run(machine, data_dir)
    enqueue_by_rq(reconciler.queue, job.id)
    machine.redis.delete(reconciler.queue.rq.key)
    reconciler.run()
    assert reconciler.run() == [job.id]
    assert len(reconciler.queue.rq) == 1


def test_a_job_whose_runs_all_died_is_given_up(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    job = lost_run(machine, data_dir)
    for _ in range(2):
        machine.start(job.id, max_attempts=3, lease_s=-1)
    reconciler.run()
    reconciler.run()
    over = outcome(machine, job)
    assert over.error
    assert (over.error["code"], over.error["attempts"]) == ("worker_lost", 3)
    assert stored(data_dir) == []


def test_two_reconcilers_queue_a_job_once(reconciler: Reconciler, machine: JobStateMachine, data_dir: Path) -> None:
    other = Reconciler(machine=machine, storage=reconciler.storage, max_attempts=3)
    unqueued(machine, data_dir)
    for _ in range(3):
        reconciler.run()
        other.run()
    assert len(reconciler.queue.rq) == 1


def test_what_rq_carries_after_the_end_is_dropped(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    over, waiting = unqueued(machine, data_dir), unqueued(machine, data_dir)
    score_track(machine, data_dir)(over.id)
    intermediate = reconciler.queue.rq.intermediate_queue
    machine.redis.rpush(intermediate.key, over.id, waiting.id)
    reconciler.run()
    assert intermediate.get_job_ids() == [waiting.id]


def test_an_open_id_without_a_record_is_forgotten(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    job = accepted(machine, data_dir)
    machine.redis.delete(f"apex:job:{job.id}", reconciler.queue.rq.key)
    reconciler.run()
    assert UnfinishedJobs(machine.redis, KEYS).ids() == []
    assert machine.redis.keys("rq:job:*") == []


def test_an_index_that_is_given_back_with_ids_of_finished_jobs_loses_them(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    """As an attack does, or whoever puts a lost key back. Such a job took a place in its tenant's quota for ever."""
    over, waiting = ended_as(JobState.SUCCEEDED, machine, data_dir), accepted(machine, data_dir)
    machine.redis.lrem(reconciler.queue.rq.key, 0, over.id)
    indexes = (KEYS.unfinished, KEYS.waiting, KEYS.deadlines, KEYS.in_flight(over.tenant))
    for index in indexes:
        machine.redis.zadd(index, {over.id: 1.0})
    machine.redis.hset(KEYS.running, over.id, '{"started_at": 1.0, "audio_s": 1.0}')
    reconciler.run()
    reconciler.run()
    assert [over.id.encode() in machine.redis.zrange(index, 0, -1) for index in indexes] == [False] * len(indexes)
    assert machine.redis.hlen(KEYS.running) == 0
    assert UnfinishedJobs(machine.redis, KEYS).ids() == [waiting.id]
    assert QueueStatus(machine.redis, KEYS).backlog().jobs == 1


def test_old_audio_without_an_open_job_is_deleted(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    job = accepted(machine, data_dir)
    folder = data_dir / "audio"
    for name in ("job_stray", "cafe.part"):
        (folder / name).write_bytes(b"x")
    two_hours_ago = time.time() - 7200
    for path in folder.iterdir():
        os.utime(path, (two_hours_ago, two_hours_ago))
    (folder / "beef.part").write_bytes(b"x")
    reconciler.run()
    assert sorted(stored(data_dir)) == sorted([job.id, "beef.part"])


def test_nothing_is_repaired_or_deleted_with_the_storage_of_another_deployment(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler.storage.create_marker("dep_other")
    stray = data_dir / "audio" / "stray"
    stray.write_bytes(b"x")
    os.utime(stray, (0, 0))
    overdue, orphan = queued(machine, deadline=1.0), unqueued(machine, data_dir)
    assert [reconciler.run() for _ in range(3)] == [[]] * 3
    assert stray.exists()
    assert [outcome(machine, job).status for job in (overdue, orphan)] == [JobState.QUEUED] * 2
    assert "it is the storage of a deployment that Redis does not know" in caplog.text


def test_a_job_that_waits_past_its_deadline_is_stopped(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    late = accepted(machine, data_dir, deadline=time.time() - 1)
    early = accepted(machine, data_dir, deadline=time.time() + 60)
    reconciler.run()
    assert outcome(machine, late).status is JobState.CANCELED
    assert outcome(machine, late).status_reason == "deadline_exceeded"
    assert outcome(machine, early).status is JobState.QUEUED
    assert stored(data_dir) == [early.id]


def test_what_a_dead_worker_held_is_queued_again_at_once(machine: JobStateMachine, data_dir: Path) -> None:
    job = unqueued(machine, data_dir)
    machine.start(job.id, max_attempts=3, lease_s=60, worker="instance 1")
    ended = dict[str, bool]()
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3, ended=ended)
    assert [reconciler.run(), reconciler.run()] == [[], []]
    ended["instance 1"] = False
    assert reconciler.run() == [job.id]
    assert outcome(machine, job).attempts_used == 1


def test_a_job_whose_worker_the_kernel_ended_for_lack_of_memory_keeps_its_attempts_for_an_hour(
    machine: JobStateMachine, data_dir: Path
) -> None:
    job, ended = accepted(machine, data_dir), {"instance 1": True}
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3, ended=ended)
    for _ in range(4):
        machine.redis.delete(*machine.queue.keys(job.id)[1:])
        machine.start(job.id, max_attempts=3, lease_s=60, worker="instance 1")
        assert reconciler.run() == [job.id]
    over = outcome(machine, job)
    assert (over.attempts_used, over.attempt) == (0, 4)
    assert over.machine_fault_at
    machine.redis.hset(KEYS.record(job.id), "machine_fault_at", over.machine_fault_at - HAND_BACK_S - 60)
    machine.redis.delete(*machine.queue.keys(job.id)[1:])
    machine.start(job.id, max_attempts=3, lease_s=60, worker="instance 1")
    reconciler.run()
    assert outcome(machine, job).attempts_used == 1


def test_a_job_that_was_begun_does_not_queue_up_again(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    waiting, lost = accepted(machine, data_dir), lost_run(machine, data_dir)
    reconciler.run()
    reconciler.run()
    assert machine.redis.lrange(reconciler.queue.rq.key, 0, -1) == [lost.id.encode(), waiting.id.encode()]


def test_a_dead_cleaner_of_rq_delays_nothing(reconciler: Reconciler, machine: JobStateMachine, data_dir: Path) -> None:
    """RQ's own recovery waits up to 899 s for this lock."""
    machine.redis.set("rq:clean_registries:scores", 1, ex=899)
    job = lost_run(machine, data_dir)
    reconciler.run()
    assert reconciler.run() == [job.id]


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED])
def test_what_is_over_stays_as_it_is_whatever_rq_holds(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path, state: JobState
) -> None:
    """RQ would fail such a job, or run it again, a minute later."""
    job = ended_as(state, machine, data_dir)
    before = outcome(machine, job)
    rq = reconciler.queue.rq
    enqueue_by_rq(reconciler.queue, job.id)
    machine.redis.rpush(rq.intermediate_queue_key, job.id)
    machine.redis.set(f"{rq.intermediate_queue_key}:first_seen:{job.id}", time.time() - 90)
    machine.redis.zadd(rq.started_job_registry.key, {f"{job.id}:execution": time.time() - 90})
    worker(score_track(machine, data_dir, on_decode=lambda: pytest.fail("it ran"))).work(burst=True)
    reconciler.run()
    reconciler.run()
    assert outcome(machine, job) == before
    assert machine.redis.llen(rq.intermediate_queue_key) == machine.redis.zcard(rq.started_job_registry.key) == 0


@pytest.mark.parametrize("clock_s", [-90, 0, 90])
def test_what_a_worker_left_that_died_right_after_the_end_is_deleted(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path, clock_s: float
) -> None:
    """Found by runs with faults: the record was over, and RQ's hash stayed. RQ's entry has the time of a worker."""
    job, rq = unqueued(machine, data_dir), reconciler.queue.rq
    machine.redis.hset(RqJob.key_for(job.id), "status", "started")
    machine.redis.zadd(rq.started_job_registry.key, {f"{job.id}:execution": time.time() + clock_s})
    run = machine.start(job.id, max_attempts=3, lease_s=60)
    assert run
    reconciler.run()
    reconciler.run()
    machine.succeed(run, result=RESULT)
    reconciler.run()
    reconciler.run()
    assert machine.redis.keys("rq:job:*") == []
    assert machine.redis.zcard(rq.started_job_registry.key) == 0


def test_what_rq_takes_for_failed_is_deleted(reconciler: Reconciler, machine: JobStateMachine, data_dir: Path) -> None:
    """RQ notes a failure when Redis refuses what it writes after a run. Nothing else deletes it."""
    over, waiting, rq = (
        ended_as(JobState.SUCCEEDED, machine, data_dir),
        accepted(machine, data_dir),
        reconciler.queue.rq,
    )
    enqueue_by_rq(reconciler.queue, over.id)
    machine.redis.lrem(rq.key, 0, over.id)
    machine.redis.zadd(rq.failed_job_registry.key, {over.id: time.time() + 300, waiting.id: time.time() + 300})
    reconciler.run()
    assert machine.redis.keys("rq:job:*") == [f"rq:job:{waiting.id}".encode()]
    assert machine.redis.zcard(rq.failed_job_registry.key) == 0


def test_a_finished_run_that_a_fast_clock_noted_is_not_kept(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    """Neither is what RQ keeps of its job. One pass may see it just before its worker drops it."""
    over, running = unqueued(machine, data_dir), unqueued(machine, data_dir)
    score_track(machine, data_dir)(over.id)
    started = machine.queue.rq.started_job_registry.key
    machine.redis.zadd(started, {f"{job.id}:execution": time.time() + 3600 for job in (over, running)})
    machine.redis.hset(RqJob.key_for(over.id), "status", "started")
    reconciler.run()
    assert machine.redis.zcard(started) == 2
    reconciler.run()
    assert f"{over.id}:execution".encode() not in machine.redis.zrange(started, 0, -1)
    assert not machine.redis.exists(RqJob.key_for(over.id))


def test_what_a_live_run_holds_is_not_stale(reconciler: Reconciler, machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)

    def look() -> None:
        before = sorted(machine.redis.keys("rq:*"))
        reconciler.run()
        reconciler.run()
        assert sorted(machine.redis.keys("rq:*")) == before

    worker(score_track(machine, data_dir, on_decode=look)).work(burst=True, logging_level="WARNING")
    assert outcome(machine, job).status is JobState.SUCCEEDED


def ended_as(state: JobState, machine: JobStateMachine, data_dir: Path) -> Job:
    job = accepted(machine, data_dir)
    if state is JobState.CANCELED:
        machine.cancel(job)
    else:
        fail = partial(raising, AudioSilent("Every sample is the same."))
        score_track(machine, data_dir, on_decode=fail if state is JobState.FAILED else nothing)(job.id)
    assert outcome(machine, job).status is state
    return job


def test_an_id_left_between_the_queue_and_a_run_is_queued_again(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    """Its worker died after it had taken the id, and before it had begun."""
    job = accepted(machine, data_dir)
    machine.redis.lmove(reconciler.queue.rq.key, reconciler.queue.rq.intermediate_queue_key)
    reconciler.run()
    assert reconciler.run() == [job.id]
    assert len(reconciler.queue.rq) == 1
    assert machine.redis.llen(reconciler.queue.rq.intermediate_queue_key) == 0


def test_nothing_is_reconciled_while_redis_is_away(data_dir: Path) -> None:
    away = Redis(host="127.0.0.1", port=1)
    reconciler = Reconciler(
        machine=state_machine(away),
        storage=FolderStorage(data_dir / "audio"),
        max_attempts=3,
    )
    assert reconciler.run() == []


def test_that_passes_are_skipped_is_said_once_and_when_they_are_made_again(
    reconciler: Reconciler, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reconciler.run()
    (data_dir / "audio").rename(data_dir / "away")
    for _ in range(3):
        reconciler.run()
    (data_dir / "away").rename(data_dir / "audio")
    for _ in range(2):
        reconciler.run()
    said = [record.getMessage() for record in caplog.records if "reconcile" in record.getMessage()]
    assert [line.partition(":")[0] for line in said] == ["reconcile passes skipped", "reconcile passes are made again"]


def test_while_the_storage_is_away_jobs_are_repaired_and_no_audio_is_looked_for(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan, orphans = unqueued(machine, data_dir), Mock()

    def refuse() -> str:
        raise OSError("away")

    monkeypatch.setattr(reconciler.storage, "marker", refuse)
    monkeypatch.setattr(reconciler.storage, "orphans", orphans)
    reconciler.run()
    assert reconciler.run() == [orphan.id]
    orphans.assert_not_called()


def test_a_lost_queue_is_filled_in_slices_and_other_repairs_come_in_between(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    """Each pass takes one slice here, because its time is over at once."""
    jobs = [queued(machine) for _ in range(2 * SLICE + 1)]
    redis, rq = machine.redis, machine.queue.rq
    redis.delete(rq.key, *(machine.queue.keys(job.id)[-1] for job in jobs))
    reconciler.run()
    late = accepted(machine, data_dir, deadline=1.0)
    reconciler.budget_s = 0.0
    passes = [len(reconciler.run()) for _ in range(3)]
    assert passes == [SLICE, SLICE, 1]
    assert outcome(machine, late).status is JobState.CANCELED
    assert [job_id for job_id in rq.job_ids if job_id != late.id] == [job.id for job in jobs]


def test_round_trips_grow_by_slices_and_not_by_jobs(reconciler: Reconciler, machine: JobStateMachine) -> None:
    def n_round_trips(n_jobs: int) -> int:
        jobs = [queued(machine) for _ in range(n_jobs)]
        machine.redis.delete(machine.queue.rq.key, *(machine.queue.keys(job.id)[-1] for job in jobs))
        reconciler.run()
        machine.redis.config_resetstat()
        assert len(reconciler.run()) == n_jobs
        return sum(calls["calls"] for name, calls in machine.redis.info("commandstats").items() if "eval" in name)

    few = n_round_trips(SLICE // 5)
    machine.redis.flushall()
    assert n_round_trips(SLICE) <= few + 1


def test_old_audio_of_unfinished_jobs_costs_no_read(
    reconciler: Reconciler, machine: JobStateMachine, data_dir: Path
) -> None:
    for job in [accepted(machine, data_dir) for _ in range(20)]:
        os.utime(data_dir / "audio" / job.id, (1, 1))
    machine.redis.config_resetstat()
    reconciler.run()
    stats = machine.redis.info("commandstats")
    assert stats.get("cmdstat_hmget", {"calls": 0})["calls"] == 0
    assert len(stored(data_dir)) == 20


def test_the_folder_is_swept_once_a_minute(reconciler: Reconciler, data_dir: Path) -> None:
    reconciler.run()
    old = data_dir / "audio" / "job_old"
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    reconciler.run()
    assert old.exists()
    reconciler._next_sweep = 0.0
    reconciler.run()
    assert not old.exists()
