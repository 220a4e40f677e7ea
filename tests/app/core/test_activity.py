"""Activity: each job of any tenant counts once, in the quarter of an hour in which it ends."""

from dataclasses import replace

import pytest
from redis import Redis

from app.core.activity import INTERVAL_S, MAX_HOURS, Activity, ActivityStore
from app.core.jobs.models import Job, JobState, RunSignal, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import MODEL, RESULT, queued, running
from tests.conftest import KEYS

DECODED = {"sha256": "x", "duration_s": 12.5}


@pytest.fixture
def activity(redis: Redis) -> ActivityStore:
    return ActivityStore(redis, KEYS)


def counted(activity: ActivityStore) -> Activity:
    """Of the last hour: an interval may end while a test runs."""
    found = activity.latest(hours=1)
    sums = {name: sum(getattr(each, name) for each in found) for name in ("succeeded", "failed", "canceled", "waits")}
    audio_ms = sum(each.audio_ms for each in found)
    failures = {code: n for each in found for code, n in each.failures.items()}
    return Activity(0, audio_ms=audio_ms, failures=failures, **sums)


def test_jobs_of_all_tenants_are_counted_together_once(machine: JobStateMachine, activity: ActivityStore) -> None:
    run = running(machine, tenant="acme")
    for _ in range(3):  # as when its answers are lost
        machine.succeed(run, result=RESULT, model=MODEL, audio=DECODED)
    machine.fail(running(machine, tenant="other"), error={"code": "audio_too_short"})
    machine.stop(running(machine), reason=RunSignal.BY_CLIENT)
    machine.purge(queued(machine))
    expected = Activity(0, succeeded=1, failed=1, canceled=2, waits=3, audio_ms=12_500)
    assert counted(activity) == replace(expected, failures={"audio_too_short": 1})


def test_a_job_has_waited_from_its_creation_to_its_run(
    machine: JobStateMachine, activity: ActivityStore, redis: Redis
) -> None:
    for wait_s in (5, 30, 10):
        run = running(machine)
        created_at = float(redis.hget(KEYS.record(run.id), "started_at") or 0) - wait_s
        redis.hset(KEYS.record(run.id), "created_at", str(created_at))
        machine.fail(run, error={"code": "x"})
    found = [each for each in activity.latest(hours=1) if each.waits]
    assert sum(each.wait_ms for each in found) == pytest.approx(45_000, abs=10)
    assert max(each.longest_wait_ms for each in found) == pytest.approx(30_000, abs=10)


def test_what_was_known_or_is_test_data_is_no_work(machine: JobStateMachine, activity: ActivityStore) -> None:
    machine.create(Job(new_job_id(), "x", status=JobState.SUCCEEDED, cached=True, audio=DECODED))
    test_job = Job(new_job_id(), "x", tenant="acme/test")
    machine.create(test_job)
    machine.cancel(test_job)
    assert counted(activity) == Activity(0, succeeded=1)


def test_every_interval_is_there_and_no_more_than_are_kept(activity: ActivityStore) -> None:
    found = activity.latest(hours=10**9)
    assert len(found) == MAX_HOURS * 3600 // INTERVAL_S
    assert {later.start_s - each.start_s for each, later in zip(found, found[1:], strict=False)} == {INTERVAL_S}


def test_damage_keeps_no_job_from_its_end(machine: JobStateMachine, activity: ActivityStore, redis: Redis) -> None:
    for each in activity.latest(hours=1)[-1:]:
        for interval in (0, 1):
            redis.set(KEYS.activity(str(each.start_s // INTERVAL_S + interval)), "no hash")
    assert machine.fail(running(machine), error={"code": "x"})
    assert counted(activity) == Activity(0)
