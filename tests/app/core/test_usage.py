"""Usage: each job counts once, in the step that ends it, whichever way it ends."""

from typing import Any

import pytest
from redis import Redis

from app.core.jobs.models import Job, JobState, RunSignal, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.usage import Counts, UsageStore
from tests.app.records import MODEL, RESULT, queued, running
from tests.conftest import KEYS

KEY = "abc123"
SENT: dict[str, Any] = {"tenant": "acme", "key_id": KEY, "audio": {"sha256": "x", "bytes": 1000}}
DECODED = {"sha256": "x", "bytes": 1000, "duration_s": 12.5}


@pytest.fixture
def usage(redis: Redis) -> UsageStore:
    return UsageStore(redis, KEYS)


def used(usage: UsageStore, tenant: str = "acme") -> dict[str | None, Counts]:
    """Of today, or of yesterday where midnight was just now."""
    found = usage.of_tenant(tenant, days=2)
    return dict(found[0].by_key) if found else {}


def test_a_success_counts_its_audio_and_its_bytes_once(machine: JobStateMachine, usage: UsageStore) -> None:
    run = running(machine, **SENT)
    assert used(usage) == {}
    for _ in range(3):  # as when its answers are lost
        machine.succeed(run, result=RESULT, model=MODEL, audio=DECODED)
    assert used(usage) == {KEY: Counts(jobs=1, succeeded=1, audio_ms=12_500, bytes=1000)}


def test_every_other_end_counts_no_audio(machine: JobStateMachine, usage: UsageStore) -> None:
    machine.fail(running(machine, **SENT), error={})
    machine.stop(running(machine, **SENT), reason=RunSignal.BY_CLIENT)
    machine.cancel(queued(machine, **SENT))
    overdue = queued(machine, **SENT)
    machine.stop(overdue, reason=RunSignal.DEADLINE_EXCEEDED)
    machine.purge(running(machine, **SENT))
    assert used(usage) == {KEY: Counts(jobs=5, failed=1, canceled=4, bytes=5000)}


def test_deleting_a_finished_job_counts_nothing_again(machine: JobStateMachine, usage: UsageStore) -> None:
    job = queued(machine, **SENT)
    machine.cancel(job)
    machine.purge(job)
    assert used(usage)[KEY].jobs == 1


def test_scores_that_were_known_count_no_audio(machine: JobStateMachine, usage: UsageStore) -> None:
    machine.create(Job(new_job_id(), "x", status=JobState.SUCCEEDED, cached=True, **{**SENT, "audio": DECODED}))
    assert used(usage) == {KEY: Counts(jobs=1, succeeded=1, bytes=1000)}


def test_keys_tenants_and_test_data_are_counted_apart(machine: JobStateMachine, usage: UsageStore) -> None:
    for tenant, key_id in (("acme", "a"), ("acme", "b"), ("acme", None), ("acme/test", "t"), ("other", "o")):
        machine.cancel(queued(machine, tenant=tenant, key_id=key_id))
    assert {tenant: list(used(usage, tenant)) for tenant in ("acme", "acme/test", "other")} == {
        "acme": [None, "a", "b"],
        "acme/test": ["t"],
        "other": ["o"],
    }
    assert [each.tenant for each in usage.of_all(days=2)] == ["acme", "acme/test", "other"]


@pytest.mark.parametrize(
    "damage", [("audio", "no JSON"), ("audio", '{"bytes": "x", "duration_s": 1e300}'), ("key_id", "1")]
)
def test_what_cannot_be_counted_keeps_no_job_from_its_end(
    machine: JobStateMachine, usage: UsageStore, redis: Redis, damage: tuple[str, str]
) -> None:
    job = queued(machine, **SENT)
    redis.hset(KEYS.record(job.id), *damage)
    machine.cancel(job)
    assert machine.store.states([job.id]) == [JobState.CANCELED]
    assert sum(counts.jobs for counts in used(usage).values()) == 1


def test_a_damaged_count_keeps_no_job_from_its_end(machine: JobStateMachine, usage: UsageStore, redis: Redis) -> None:
    machine.cancel(queued(machine, **SENT))
    [key] = redis.keys("apex:usage:*:acme")
    for damage in (lambda: redis.hset(key, f"{KEY}:jobs", "x"), lambda: (redis.delete(key), redis.set(key, "x"))):
        damage()
        job = queued(machine, **SENT)
        machine.cancel(job)
        assert machine.store.states([job.id]) == [JobState.CANCELED]
        used(usage)


def test_usage_is_forgotten_after_400_days(machine: JobStateMachine, redis: Redis) -> None:
    machine.cancel(queued(machine, **SENT))
    left_s = {redis.ttl(key) for key in redis.keys("apex:usage:*")}
    assert all(399 * 24 * 3600 < seconds <= 400 * 24 * 3600 for seconds in left_s)
    assert len(redis.keys("apex:usage:*")) == 2
