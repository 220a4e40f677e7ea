"""The outbox: no end without its event, no event without its end; who gets events when, and what attempts change."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from app.api.batches.store import Batch, BatchStore, new_batch_id
from app.core.jobs.models import Job, JobState, RunSignal, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.webhooks.models import Attempt, DeliveryStatus, Event, event_id
from app.core.webhooks.outbox import MAX_ATTEMPTS_KEPT, Outbox
from tests.app import records
from tests.conftest import KEYS, state_machine

URL = "https://hooks.example.com/apex?token=needle"
ALL = ["job.succeeded", "job.failed", "job.canceled"]
WANTED: dict[str, Any] = {"webhook_url": URL, "webhook_events": ALL}
FAILED = Attempt(at=1.0, duration_ms=5, status_code=500)


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(redis, KEYS, result_ttl_s=60)


@pytest.fixture
def batches(redis: Redis) -> BatchStore:
    return BatchStore(redis, KEYS, result_ttl_s=60)


def due(outbox: Outbox, limit: int = 100) -> list[Event]:
    return list(outbox.claim("me", limit=limit).events)


def posted(outbox: Outbox, n: int = 1, *, tenant: str = "open", host: str = "hooks.example.com") -> list[str]:
    ids = [event_id(f"test_{host}_{number}") for number in range(n)]
    for each in ids:
        outbox.post(id=each, type="webhook.test", tenant=tenant, url=f"https://{host}/")
    return ids


def fail(outbox: Outbox, event: Event, **more: Any) -> bool:
    return outbox.settle(event, FAILED, DeliveryStatus.PENDING, delay_s=3600.0, **more)


ENDS: dict[str, tuple[str, Callable[[JobStateMachine], object]]] = {
    "a result": ("job.succeeded", lambda jobs: records.succeeded(jobs, **WANTED)),
    "a failure": ("job.failed", lambda jobs: jobs.fail(records.running(jobs, **WANTED), error={"code": "x"})),
    "a run that was asked to stop": (
        "job.canceled",
        lambda jobs: jobs.stop(records.running(jobs, **WANTED), reason=RunSignal.BY_CLIENT),
    ),
    "a cancel in the queue": ("job.canceled", lambda jobs: jobs.cancel(records.queued(jobs, **WANTED))),
    "a deadline that a worker met": (
        "job.canceled",
        lambda jobs: jobs.stop(records.queued(jobs, **WANTED), reason=RunSignal.DEADLINE_EXCEEDED),
    ),
    "lost attempts": ("job.failed", lambda jobs: jobs.fail(records.queued(jobs, **WANTED), error={"code": "x"})),
    "known scores": (
        "job.succeeded",
        lambda jobs: jobs.create(
            Job(id=new_job_id(), storage_key="x", status=JobState.SUCCEEDED, cached=True, **WANTED)
        ),
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_has_one_event(machine: JobStateMachine, outbox: Outbox, end: str) -> None:
    event_type, make = ENDS[end]
    make(machine)
    [event] = due(outbox)
    assert (event.type, event.url, event.tenant) == (event_type, URL, "open")
    assert event.id == event_id(event.subject)
    assert due(outbox) == []


def test_an_end_that_is_repeated_or_lost_has_no_second_event(machine: JobStateMachine, outbox: Outbox) -> None:
    run = records.running(machine, **WANTED)
    for _ in range(2):
        assert machine.succeed(run, result=records.RESULT)
    assert not machine.fail(run, error={})
    assert [event.type for event in due(outbox)] == ["job.succeeded"]


@pytest.mark.parametrize("more", [{}, {"webhook_url": URL}, {"webhook_url": URL, "webhook_events": ["job.failed"]}])
def test_who_does_not_want_to_be_told_is_not(machine: JobStateMachine, outbox: Outbox, more: dict[str, Any]) -> None:
    records.succeeded(machine, **more)
    assert due(outbox) == []


def test_a_job_without_a_webhook_leaves_nothing_of_one(machine: JobStateMachine, redis: Redis) -> None:
    records.succeeded(machine)
    assert redis.keys("apex:webhooks:*") == []


def test_a_deleted_job_has_no_event_any_more(machine: JobStateMachine, outbox: Outbox, redis: Redis) -> None:
    machine.purge(records.queued(machine, **WANTED))
    job = records.succeeded(machine, **WANTED)
    [event] = due(outbox)
    machine.purge(job)
    assert not outbox.settle(event, Attempt(1.0, 1, 200, response="needle"), DeliveryStatus.DELIVERED)
    assert outbox.get(event.id, tenant="open") is None
    assert redis.keys("apex:webhooks:event:*") == redis.keys("apex:webhooks:*ing:*") == []


def test_an_event_expires_with_its_job(redis: Redis, outbox: Outbox) -> None:
    job = records.succeeded(state_machine(redis, result_ttl_s=600), **WANTED)
    assert 590 < redis.ttl(KEYS.webhook_event(event_id(job.id))) <= redis.ttl(KEYS.record(job.id)) + 1


def test_an_event_that_has_expired_is_dropped(machine: JobStateMachine, outbox: Outbox, redis: Redis) -> None:
    job = records.succeeded(machine, **WANTED)
    redis.delete(KEYS.webhook_event(event_id(job.id)))
    assert due(outbox) == []
    assert redis.keys("apex:webhooks:due:*") == redis.keys("apex:webhooks:receivers") == []


def test_keys_of_a_wrong_type_do_not_keep_a_job_from_its_end(
    machine: JobStateMachine, outbox: Outbox, redis: Redis
) -> None:
    run = records.running(machine, **WANTED)
    for name in ("receivers", "due:open:hooks.example.com", "sending:open:hooks.example.com", f"event:evt_{run.id}"):
        redis.set(f"apex:webhooks:{name}", "nonsense")
    assert machine.succeed(run, result=records.RESULT)
    assert [event.subject for event in due(outbox)] == [run.id]


def batch_of(batches: BatchStore, *, tenant: str = "open") -> Batch:
    return batches.create(Batch(new_batch_id(), tenant, webhook_url=URL, webhook_events=["batch.completed"]))


def test_a_batch_is_complete_once_all_that_came_with_it_is_over(
    machine: JobStateMachine, batches: BatchStore, outbox: Outbox
) -> None:
    batch = batch_of(batches)
    first = records.running(machine, batch_id=batch.id)
    machine.succeed(first)
    assert due(outbox) == []  # more may come with the same request
    second, third = (records.running(machine, batch_id=batch.id) for _ in range(2))
    batches.seal(batch)
    machine.fail(second, error={})
    assert due(outbox) == []
    machine.purge(third)
    [event] = due(outbox)
    assert (event.type, event.subject) == ("batch.completed", batch.id)


def test_a_batch_is_complete_only_once(machine: JobStateMachine, batches: BatchStore, outbox: Outbox) -> None:
    batch = batch_of(batches)
    batches.seal(batch)
    assert [event.type for event in due(outbox)] == ["batch.completed"]
    machine.succeed(records.running(machine, batch_id=batch.id))
    batches.seal(batch)
    assert due(outbox) == []


def test_a_claimed_event_is_nobody_elses_until_its_lease_ends(outbox: Outbox) -> None:
    posted(outbox)
    [event] = outbox.claim("one", limit=9, lease_s=0.05).events
    assert outbox.claim("two", limit=9).events == []
    time.sleep(0.06)
    [again] = outbox.claim("two", limit=9).events
    assert (again.id, again.claim) == (event.id, event.claim + 1)
    assert not outbox.settle(event, FAILED, DeliveryStatus.DELIVERED)
    assert outbox.settle(again, FAILED, DeliveryStatus.DELIVERED)


def test_a_settlement_whose_answer_was_lost_counts_once(outbox: Outbox) -> None:
    posted(outbox)
    [event] = due(outbox)
    for _ in range(2):
        outbox.settle(event, FAILED, DeliveryStatus.PENDING, delay_s=0.0)
    found, attempts = outbox.get(event.id, tenant="open") or pytest.fail("no event")
    assert (found.tries, len(attempts)) == (1, 1)


def test_a_failed_attempt_is_made_again_later(outbox: Outbox) -> None:
    posted(outbox)
    [event] = due(outbox)
    assert fail(outbox, event)
    assert due(outbox) == []
    found, [attempt] = outbox.get(event.id, tenant="open") or pytest.fail("no event")
    assert (found.status, found.tries, attempt) == (DeliveryStatus.PENDING, 1, FAILED)
    assert found.next_attempt_at
    assert found.next_attempt_at > found.created_at + 3000


def test_one_receiver_gets_a_few_events_at_a_time_and_delays_no_other(outbox: Outbox) -> None:
    posted(outbox, 30, host="slow.example.com")
    posted(outbox, 3, host="quick.example.com")
    hosts = [event.receiver for event in due(outbox)]
    assert hosts.count("open:slow.example.com") == 8
    assert hosts.count("open:quick.example.com") == 3


def test_a_receiver_that_is_down_is_left_alone_and_then_asked_once(outbox: Outbox, redis: Redis) -> None:
    posted(outbox, 20)
    events = due(outbox)
    for event in events:
        fail(outbox, event, is_down=True)
    assert due(outbox) == []
    redis.hset("apex:webhooks:receiver:open:hooks.example.com", "open_until", 0)
    redis.zadd("apex:webhooks:receivers", {"open:hooks.example.com": 0})
    [probe] = due(outbox)
    assert due(outbox) == []
    outbox.settle(probe, FAILED, DeliveryStatus.DELIVERED, is_down=False)
    assert len(due(outbox)) == 8


def test_an_event_says_that_it_waits_for_its_receiver(outbox: Outbox, redis: Redis) -> None:
    ids = posted(outbox, 8)
    for event in due(outbox):
        outbox.settle(event, FAILED, DeliveryStatus.PENDING, delay_s=0.0, is_down=True)
    open_until = float(redis.hget("apex:webhooks:receiver:open:hooks.example.com", "open_until") or 0)
    for each in ids:
        found, _ = outbox.get(each, tenant="open") or pytest.fail("no event")
        assert found.next_attempt_at == open_until
    redis.hset("apex:webhooks:receiver:open:hooks.example.com", "open_until", 0)
    found, _ = outbox.get(ids[0], tenant="open") or pytest.fail("no event")
    assert (found.next_attempt_at or open_until) < open_until


def test_a_tenants_dead_receiver_is_no_others(outbox: Outbox) -> None:
    posted(outbox, 8, tenant="a")
    for event in due(outbox):
        fail(outbox, event, is_down=True)
    outbox.post(id="evt_of_b", type="webhook.test", tenant="b", url="https://hooks.example.com/")
    assert [event.id for event in due(outbox)] == ["evt_of_b"]


def test_an_event_is_given_up_after_its_time(outbox: Outbox, redis: Redis) -> None:
    [one] = posted(outbox)
    redis.hset(KEYS.webhook_event(one), "round_at", 1.0)
    assert due(outbox) == []
    found, _ = outbox.get(one, tenant="open") or pytest.fail("no event")
    assert (found.status, found.next_attempt_at) == (DeliveryStatus.FAILED, None)


def test_an_event_is_sent_again_from_the_beginning(outbox: Outbox) -> None:
    [one] = posted(outbox)
    [event] = due(outbox)
    outbox.settle(event, FAILED, DeliveryStatus.FAILED)
    assert outbox.redeliver(one)
    [again] = due(outbox)
    assert (again.id, again.tries) == (one, 0)
    assert outbox.redeliver(one)  # while it is being sent
    assert not outbox.settle(again, FAILED, DeliveryStatus.DELIVERED)
    assert [event.id for event in due(outbox)] == [one]
    assert not outbox.redeliver("evt_unknown")


def test_only_the_last_attempts_are_kept(outbox: Outbox) -> None:
    [one] = posted(outbox)
    for number in range(MAX_ATTEMPTS_KEPT + 5):
        [event] = due(outbox)
        outbox.settle(event, Attempt(float(number), number), DeliveryStatus.PENDING, delay_s=0.0)
    _, attempts = outbox.get(one, tenant="open") or pytest.fail("no event")
    assert [attempt.duration_ms for attempt in attempts] == list(range(5, MAX_ATTEMPTS_KEPT + 5))


def test_another_tenants_event_is_not_shown(outbox: Outbox) -> None:
    [one] = posted(outbox)
    assert outbox.get(one, tenant="other") is None
