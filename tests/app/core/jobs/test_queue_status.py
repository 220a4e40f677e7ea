"""Positions in the queue."""

import pytest

from app.core.callers import ANONYMOUS_TENANT
from app.core.jobs.backlog import Backlog, BacklogLimits
from app.core.jobs.models import Job, JobState, QueueFull, QueuePosition
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import queued
from tests.conftest import KEYS


def test_waiting_audio_is_bounded_and_places_are_told(machine: JobStateMachine) -> None:
    jobs = [queued(machine, estimated_s=100.0) for _ in range(3)]
    assert [QueueStatus(machine.redis, KEYS).position(job) for job in jobs] == [
        QueuePosition(1, 0.0),
        QueuePosition(2, 100.0),
        QueuePosition(3, 200.0),
    ]
    assert QueueStatus(machine.redis, KEYS).backlog() == Backlog(3, 300.0, {ANONYMOUS_TENANT: 300.0})
    with pytest.raises(QueueFull):
        machine.create(Job(id="job_4", storage_key="4"), backlog=BacklogLimits(300.0))
    assert machine.start(jobs[0].id, max_attempts=3, lease_s=60)
    assert QueueStatus(machine.redis, KEYS).position(jobs[0]) is None
    assert QueueStatus(machine.redis, KEYS).position(jobs[2]) == QueuePosition(2, 100.0)
    machine.create(Job(id="job_4", storage_key="4"), backlog=BacklogLimits(300.0))


def test_a_new_record_tells_its_place_in_the_queue(machine: JobStateMachine) -> None:
    jobs = [Job(id=f"job_{number}", storage_key="x", estimated_s=10.5) for number in range(3)]
    positions = [machine.create(job)[1] for job in jobs]
    assert (
        positions
        == QueueStatus(machine.redis, KEYS).positions(jobs)
        == [QueuePosition(1, 0.0), QueuePosition(2, 10.5), QueuePosition(3, 21.0)]
    )
    assert machine.create(Job(id="job_3", storage_key="x", status=JobState.FAILED))[1] is None
