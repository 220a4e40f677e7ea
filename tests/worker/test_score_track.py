"""One job's run: what it writes into the record, and what it leaves behind."""

import base64
import errno
import faulthandler
import json
import os
import time
from pathlib import Path

import pytest
from redis import Redis
from rq.timeouts import JobTimeoutException

from app.core.deployment import Deployment
from app.core.jobs.models import JobState
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.logging import JsonFormatter
from app.core.storage.folder import FolderStorage
from model.audio.sandbox.forkserver import ForkServerError
from model.domain import AudioSilent, AudioTooLong, AudioWarning, DeviceLost, DeviceOutOfMemory, ModelOutputInvalid
from tests.conftest import KEYS
from tests.worker.fakes import (
    EMBEDDING,
    SCORES,
    SEGMENT_SCORES,
    SPREAD,
    accepted,
    outcome,
    raising,
    score_track,
    stored,
)


def test_a_track_is_scored_and_its_audio_deleted(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    score_track(machine, data_dir)(job.id)
    over = outcome(machine, job)
    assert over.status is JobState.SUCCEEDED
    assert over.result == {
        "scores": SCORES,
        "ranges": {name: [0.0, 100.0] for name in SCORES},
        "segment_scores": SEGMENT_SCORES,
        "spread": SPREAD,
        "warnings": [],
    }
    assert machine.store.embedding(job.id) is None
    assert over.progress == {"stage": "scoring", "segments_done": 3, "segments_total": 3}
    assert over.audio | {"bytes": 5, "codec": "pcm_s16le", "channels": 2, "duration_s": 61.0} == over.audio
    assert over.model == {"name": "apex", "version": "fake"}
    assert set(over.timings) == {"queue_s", "decode_s", "inference_s", "total_s"}
    assert stored(data_dir) == []


def test_an_embedding_is_kept_as_long_as_the_job_where_it_is_asked_for(
    machine: JobStateMachine, data_dir: Path
) -> None:
    job = accepted(machine, data_dir, with_embedding=True)
    score_track(machine, data_dir)(job.id)
    kept = machine.store.embedding(job.id) or {}
    assert (kept["float32"], kept["n_segments"]) == (base64.b64encode(EMBEDDING.tobytes()).decode(), 3)
    ttl_s = [machine.redis.ttl(key) for key in (KEYS.record(job.id), KEYS.embedding(job.id))]
    assert ttl_s[0] == ttl_s[1] > 0
    machine.purge(job)
    assert machine.store.embedding(job.id) is None


def test_what_is_odd_about_a_track_stands_in_its_result(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    warning = AudioWarning("packets_skipped", "3 packet(s) did not decode and were left out.")
    score_track(machine, data_dir, warnings=(warning,))(job.id)
    assert (outcome(machine, job).result or {})["warnings"] == [{"code": warning.code, "detail": warning.detail}]


def test_progress_is_written_after_each_segment(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    seen = []
    score_track(machine, data_dir, on_segment=lambda: seen.append(outcome(machine, job).progress["segments_done"]))(
        job.id
    )
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AudioSilent("Every sample is the same."), "audio_silent"),
        (AudioTooLong("More than 900 s."), "audio_too_long"),
        (ModelOutputInvalid("NaN"), "model_output_invalid"),
        (JobTimeoutException("1800 s"), "timed_out"),
    ],
)
def test_an_expected_failure_is_an_outcome(
    machine: JobStateMachine, data_dir: Path, error: Exception, code: str
) -> None:
    job = accepted(machine, data_dir)
    score_track(machine, data_dir, on_decode=lambda: raising(error))(job.id)
    over = outcome(machine, job)
    assert over.status is JobState.FAILED
    assert over.error
    assert over.error["code"] == code
    assert over.error["attempts"] == 1
    assert over.error["request_id"] == "r1"
    assert stored(data_dir) == []


MACHINE_FAULTS = [
    *(OSError(code, os.strerror(code)) for code in (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.ENOMEM)),
    BlockingIOError(errno.EAGAIN, "no process to be had"),
    ForkServerError("the fork server does not answer"),
]


@pytest.mark.parametrize("fault", MACHINE_FAULTS, ids=str)
def test_a_fault_of_the_machine_is_not_charged_to_the_job(
    machine: JobStateMachine, data_dir: Path, fault: OSError
) -> None:
    job = accepted(machine, data_dir)
    task = score_track(machine, data_dir, on_decode=lambda: raising(fault))
    for _ in range(5):
        task(job.id)
    found = outcome(machine, job)
    assert (found.status, found.attempt, found.attempts_used) == (JobState.QUEUED, 5, 0)
    assert task.pause.active
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_watchdog_without_a_thread_is_a_fault_of_the_machine(
    machine: JobStateMachine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("unable to start watchdog thread")

    monkeypatch.setattr(faulthandler, "dump_traceback_later", refuse)
    job = accepted(machine, data_dir)
    score_track(machine, data_dir)(job.id)
    found = outcome(machine, job)
    assert (found.status, found.attempts_used) == (JobState.QUEUED, 0)


def test_a_run_without_memory_does_not_count(machine: JobStateMachine, data_dir: Path) -> None:
    job, task = accepted(machine, data_dir), score_track(machine, data_dir, on_decode=lambda: raising(MemoryError()))
    task(job.id)
    found = outcome(machine, job)
    assert (found.status, found.attempts_used, task.pause.active) == (JobState.QUEUED, 0, True)


def test_missing_audio_may_be_found_by_another_worker(machine: JobStateMachine, data_dir: Path, tmp_path: Path) -> None:
    job = accepted(machine, data_dir)
    score_track(machine, tmp_path / "wrong folder")(job.id)
    assert outcome(machine, job).status is JobState.QUEUED
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_audio_that_the_right_storage_has_lost_ends_its_job_at_once(machine: JobStateMachine, data_dir: Path) -> None:
    job, task = accepted(machine, data_dir), score_track(machine, data_dir)
    task.deployment.check()
    (data_dir / "audio" / job.id).unlink()
    task(job.id)
    over = outcome(machine, job)
    assert over.error
    assert (over.status, over.error["code"], over.attempt) == (JobState.FAILED, "audio_lost", 1)
    assert not task.pause.active


@pytest.mark.parametrize("hand_back_s", [3600.0, -1.0])
def test_a_job_costs_no_attempt_where_the_storage_is_not_the_right_one(
    machine: JobStateMachine, data_dir: Path, hand_back_s: float
) -> None:
    job = accepted(machine, data_dir)
    Deployment(machine.redis, KEYS, FolderStorage(data_dir / "audio")).check()
    unmounted = score_track(machine, data_dir / "unmounted")
    unmounted.hand_back_s = hand_back_s
    for _ in range(4):
        unmounted(job.id)
        assert unmounted.pause.active
    assert (outcome(machine, job).status, outcome(machine, job).attempts_used) == (JobState.QUEUED, 0)
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_file_that_is_missing_elsewhere_is_a_fault_of_the_machine(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    score_track(machine, data_dir, on_decode=lambda: raising(FileNotFoundError(errno.ENOENT, "scratch")))(job.id)
    assert (outcome(machine, job).status, outcome(machine, job).attempts_used) == (JobState.QUEUED, 0)


def test_a_first_fault_noted_in_the_future_is_not_believed(machine: JobStateMachine, data_dir: Path) -> None:
    """Redis's clock was put back since."""
    job = accepted(machine, data_dir, machine_fault_at=time.time() + 86_400)
    score_track(machine, data_dir, on_decode=lambda: raising(MACHINE_FAULTS[0]))(job.id)
    assert outcome(machine, job).attempts_used == 1


def test_a_job_that_met_a_fault_waits_behind_the_others(machine: JobStateMachine, data_dir: Path) -> None:
    first, second = (accepted(machine, data_dir, estimated_s=60.0) for _ in range(2))
    score_track(machine, data_dir, on_decode=lambda: raising(MACHINE_FAULTS[0]))(first.id)
    positions = QueueStatus(machine.redis, KEYS).positions([first, second])
    assert [position and position.position for position in positions] == [2, 1]


def test_audio_that_its_client_deleted_is_no_fault(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)

    def purge() -> None:
        machine.purge(job)
        raising(FileNotFoundError(errno.ENOENT, "deleted"))

    task = score_track(machine, data_dir, on_decode=purge)
    task(job.id)
    assert not task.pause.active


def test_an_error_that_no_machine_gives_counts(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    task = score_track(machine, data_dir, on_decode=lambda: raising(OSError(errno.EINVAL, "a bug")))
    task(job.id)
    assert outcome(machine, job).attempts_used == 1
    assert not task.pause.active


def test_audio_that_cannot_be_deleted_does_not_undo_the_outcome(
    machine: JobStateMachine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(machine, data_dir)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: raising(OSError(errno.EROFS, "read-only")))
        score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED
    assert stored(data_dir) == [job.id]  # the reconciler's from now on


@pytest.mark.parametrize("surprise", [RuntimeError("bug"), SystemExit(0), KeyboardInterrupt()])
def test_a_surprise_gives_the_job_back(machine: JobStateMachine, data_dir: Path, surprise: BaseException) -> None:
    job = accepted(machine, data_dir)
    score_track(machine, data_dir, on_decode=lambda: raising(surprise))(job.id)
    assert outcome(machine, job).status is JobState.QUEUED
    assert stored(data_dir) == [job.id]
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_the_last_surprise_fails_the_job(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    task = score_track(machine, data_dir, on_decode=lambda: raising(RuntimeError("bug")))
    for _ in range(3):
        task(job.id)
    over = outcome(machine, job)
    assert over.status is JobState.FAILED
    assert over.error
    assert (over.error["code"], over.error["attempts"]) == ("internal_error", 3)
    assert "bug" not in str(over.error)


class Hostile(Exception):
    """Cannot be pickled, nor even printed."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("error", [RuntimeError("x" * 50_000_000), Hostile(), SystemExit()])
def test_what_an_exception_says_is_not_passed_on(
    machine: JobStateMachine, data_dir: Path, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    job = accepted(machine, data_dir)
    for _ in range(3):
        score_track(machine, data_dir, on_decode=lambda: raising(error))(job.id)
    over = outcome(machine, job)
    assert over.error
    assert over.error["code"] == "internal_error"
    assert len(str(over.error)) < 1000
    assert max(len(JsonFormatter().format(record)) for record in caplog.records) < 20_000


def test_a_job_whose_runs_all_died_is_given_up(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    for _ in range(3):
        machine.start(job.id, max_attempts=3, lease_s=-1)
    score_track(machine, data_dir)(job.id)
    error = outcome(machine, job).error
    assert error
    assert error["code"] == "worker_lost"


def test_a_run_handed_back_does_not_count(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    leaving = score_track(machine, data_dir)
    leaving.set_drain_deadline(-1)
    for _ in range(5):
        leaving(job.id)
    assert (outcome(machine, job).attempt, outcome(machine, job).attempts_used) == (5, 0)
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_late_duplicate_changes_nothing(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    score_track(machine, data_dir)(job.id)
    before = outcome(machine, job)
    score_track(machine, data_dir, on_decode=lambda: pytest.fail("it ran again"))(job.id)
    assert outcome(machine, job) == before


def test_a_run_that_lost_its_job_stops_and_writes_nothing(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)

    def another_worker_takes_it() -> None:
        machine.start(job.id, max_attempts=3, lease_s=60)

    score_track(machine, data_dir, on_decode=another_worker_takes_it, lease_s=-1)(job.id)
    over = outcome(machine, job)
    assert (over.status, over.attempt) == (JobState.RUNNING, 2)
    assert stored(data_dir) == [job.id]


def test_an_unknown_id_is_nothing_to_do(machine: JobStateMachine, data_dir: Path, redis: Redis) -> None:
    score_track(machine, data_dir)("job_" + "0" * 32)
    assert redis.keys("apex:job:*") == []


def test_a_run_stops_at_the_next_segment_when_a_client_cancels(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    segments = []

    def cancel_in_the_first() -> None:
        segments.append(1)
        machine.cancel(job)

    score_track(machine, data_dir, on_segment=cancel_in_the_first)(job.id)
    over = outcome(machine, job)
    assert (over.status, over.status_reason) == (JobState.CANCELED, "by_client")
    assert len(segments) == 1
    assert over.result is None
    assert stored(data_dir) == []


def test_a_run_stops_when_its_deadline_passes(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir, deadline=time.time() + 0.2)
    score_track(machine, data_dir, on_segment=lambda: time.sleep(0.3))(job.id)
    over = outcome(machine, job)
    assert (over.status, over.status_reason) == (JobState.CANCELED, "deadline_exceeded")


def test_an_overdue_job_is_not_run(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir, deadline=time.time() - 1)
    score_track(machine, data_dir, on_decode=lambda: pytest.fail("it ran"))(job.id)
    over = outcome(machine, job)
    assert (over.status, over.status_reason) == (JobState.CANCELED, "deadline_exceeded")
    assert stored(data_dir) == []


def test_the_rate_of_the_worker_is_measured(machine: JobStateMachine, data_dir: Path) -> None:
    assert QueueStatus(machine.redis, KEYS).throughput() is None
    score_track(machine, data_dir, on_segment=lambda: time.sleep(0.05))(accepted(machine, data_dir).id)
    rate = QueueStatus(machine.redis, KEYS).throughput()
    assert rate
    assert 61 / 2 < rate < 61 / 0.15


def test_a_lost_device_gives_the_job_back_and_ends_the_process(machine: JobStateMachine, data_dir: Path) -> None:
    job, ended = accepted(machine, data_dir), list[str]()
    task = score_track(machine, data_dir, on_segment=lambda: raising(DeviceLost("CUDA error")))
    task.on_device_lost = lambda: ended.append(outcome(machine, job).status)
    task(job.id)
    assert ended == [JobState.QUEUED]
    score_track(machine, data_dir)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED


def test_a_full_device_is_tried_again_and_then_named(machine: JobStateMachine, data_dir: Path) -> None:
    job = accepted(machine, data_dir)
    task = score_track(machine, data_dir, on_segment=lambda: raising(DeviceOutOfMemory("one segment does not fit")))
    for status in (JobState.QUEUED, JobState.QUEUED, JobState.FAILED):
        task(job.id)
        assert outcome(machine, job).status is status
    error = outcome(machine, job).error
    assert error
    assert error["code"] == "gpu_out_of_memory"


def test_what_a_run_logs_carries_the_ids_of_its_request(
    machine: JobStateMachine, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    caplog.handler.setFormatter(JsonFormatter())
    job = accepted(machine, data_dir, trace_id="t1")
    score_track(machine, data_dir)(job.id)
    line = json.loads(caplog.text.splitlines()[-1])
    assert (line["request_id"], line["trace_id"], line["job_id"], line["attempt"]) == ("r1", "t1", job.id, 1)
