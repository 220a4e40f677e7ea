"""What receivers get, what their answers lead to, and that none delays another."""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import Mock

import pytest
from redis import Redis
from standardwebhooks.webhooks import WebhookVerificationError

from app.api.batches.store import Batch, BatchStore, new_batch_id
from app.api.jobs.views import job_view
from app.core.egress_rules import LOOPBACK, EgressRules
from app.core.jobs.models import Job
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.store import JobStore
from app.core.webhooks.models import Attempt, DeliveryStatus, event_id
from app.core.webhooks.outbox import Outbox
from app.core.webhooks.secrets import WebhookSecrets
from app.egress import delivery
from app.egress.client import guarded_client
from app.egress.delivery import Sender
from app.egress.dispatcher import Dispatcher
from app.egress.messages import Messages
from app.egress.retry_after import retry_after_s
from tests.app import records
from tests.app.egress.hooks import Hook, Received, Reply, hook, types
from tests.conftest import KEYS
from tests.redis_servers import DEADLINE_S

RULES = EgressRules(("*",), networks=LOOPBACK)
#: As many attempts as there are, and no waiting.
AT_ONCE = (0.0,) * 8


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(redis, KEYS, result_ttl_s=60)


@pytest.fixture
def secrets(redis: Redis) -> WebhookSecrets:
    return WebhookSecrets(redis, KEYS)


@pytest.fixture
def secret(secrets: WebhookSecrets) -> str:
    return secrets.create("open").key


@pytest.fixture
def receiver() -> Iterator[Hook]:
    with hook() as found:
        yield found


def dispatch(
    outbox: Outbox,
    until: Callable[[], object],
    *,
    schedule_s: Sequence[float] = AT_ONCE,
    rules: EgressRules = RULES,
    n_dispatchers: int = 1,
    poll_s: float = 0.01,
) -> None:
    """Run dispatchers until something is so."""

    async def run() -> None:
        stop, redis = asyncio.Event(), outbox.redis
        messages = Messages(JobStore(redis, KEYS), BatchStore(redis, KEYS, result_ttl_s=60), 60)
        async with guarded_client(rules, timeout_s=5) as client:
            sender = Sender(client, outbox, messages, WebhookSecrets(redis, KEYS), schedule_s)
            dispatchers = [Dispatcher(outbox, sender, name=str(n), poll_s=poll_s) for n in range(n_dispatchers)]
            running = [asyncio.create_task(dispatcher.run(stop)) for dispatcher in dispatchers]
            deadline = time.monotonic() + DEADLINE_S
            while not until():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*running)

    asyncio.run(run())


def status(outbox: Outbox, job: Job) -> tuple[DeliveryStatus, list[Attempt]]:
    event, attempts = outbox.get(event_id(job.id), tenant="open") or pytest.fail("no event")
    return event.status, attempts


def settled(outbox: Outbox, *jobs: Job) -> Callable[[], bool]:
    return lambda: all(status(outbox, job)[0] is not DeliveryStatus.PENDING for job in jobs)


def told(machine: JobStateMachine, receiver: Hook, **more: object) -> Job:
    """A job that has ended, and whose receiver is to be told."""
    return records.succeeded(machine, webhook_url=receiver.url, webhook_events=["job.succeeded"], **more)


def test_a_receiver_gets_the_job_as_it_is_read(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    job = told(machine, receiver)
    dispatch(outbox, settled(outbox, job))
    [received] = receiver.received
    body = received.verified(secret)
    assert (received.event_id, body["type"]) == (event_id(job.id), "job.succeeded")
    assert body["data"] == job_view(job, result_ttl_s=60).model_dump(mode="json", by_alias=True)
    assert (received.path, received.headers["content-type"]) == ("/hooks/apex", "application/json")
    assert status(outbox, job)[0] is DeliveryStatus.DELIVERED


def test_a_body_that_was_changed_is_not_verified(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    job = told(machine, receiver)
    dispatch(outbox, settled(outbox, job))
    [received] = receiver.received
    with pytest.raises(WebhookVerificationError):
        replace(received, body=received.body.replace(b"succeeded", b"failed")).verified(secret)


def test_during_a_rotation_either_secret_verifies(
    machine: JobStateMachine, outbox: Outbox, secrets: WebhookSecrets, receiver: Hook
) -> None:
    first = secrets.create("open").key
    second = secrets.rotate("open").key
    dispatch(outbox, settled(outbox, told(machine, receiver)))
    third = secrets.rotate("open", overlap_s=0).key
    dispatch(outbox, settled(outbox, told(machine, receiver)))
    both, last = receiver.received
    assert both.verified(first) == both.verified(second)
    assert last.verified(third)
    for old in (first, second):
        with pytest.raises(WebhookVerificationError):
            last.verified(old)


def test_a_batch_is_told_without_its_items(redis: Redis, outbox: Outbox, secret: str, receiver: Hook) -> None:
    batches = BatchStore(redis, KEYS, result_ttl_s=60)
    batch = batches.create(Batch(new_batch_id(), "open", webhook_url=receiver.url, webhook_events=["batch.completed"]))
    batches.reject(batch, {"code": "x"})
    batches.seal(batch)
    dispatch(outbox, lambda: receiver.received)
    data = receiver.received[0].verified(secret)["data"]
    assert (data["id"], data["done"], data["counts"]["rejected"]) == (batch.id, True, 1)
    assert (data["items"], data["next_cursor"]) == ([], "0")


def test_what_fails_is_tried_again_with_the_same_id(machine: JobStateMachine, outbox: Outbox, secret: str) -> None:
    with hook(Reply(500), Reply(302, {"Location": "/elsewhere"}), Reply(404), Reply(200, {}, b"thanks")) as receiver:
        job = told(machine, receiver)
        dispatch(outbox, settled(outbox, job))
    assert receiver.ids == {event_id(job.id): 4}
    assert {each.path for each in receiver.received} == {"/hooks/apex"}
    assert types(receiver.received, secret) == ["job.succeeded"] * 4
    state, attempts = status(outbox, job)
    assert (state, [attempt.status_code for attempt in attempts]) == (DeliveryStatus.DELIVERED, [500, 302, 404, 200])
    assert attempts[-1].response == "thanks"


def test_it_is_given_up_after_eight_attempts(machine: JobStateMachine, outbox: Outbox, secret: str) -> None:
    with hook(Reply(400)) as receiver:
        job = told(machine, receiver)
        dispatch(outbox, settled(outbox, job))
    assert status(outbox, job)[0] is DeliveryStatus.FAILED
    assert len(receiver.received) == len(delivery.SCHEDULE_S) == 8


def test_a_receiver_that_is_gone_is_not_called_again(machine: JobStateMachine, outbox: Outbox, secret: str) -> None:
    with hook(Reply(410)) as receiver:
        job = told(machine, receiver)
        dispatch(outbox, settled(outbox, job))
    assert status(outbox, job)[0] is DeliveryStatus.STOPPED
    assert len(receiver.received) == 1


def test_a_receiver_says_when_it_wants_to_be_called(machine: JobStateMachine, outbox: Outbox, secret: str) -> None:
    with hook(Reply(429, {"Retry-After": "3000"})) as receiver:
        job = told(machine, receiver)
        dispatch(outbox, lambda: status(outbox, job)[1])
    event, [attempt] = outbox.get(event_id(job.id), tenant="open") or pytest.fail("no event")
    assert event.next_attempt_at
    assert 2990 < event.next_attempt_at - attempt.at < 3010 + DEADLINE_S


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("7", 7.0), ("soon", None), ("-1", None), ("9999999999", 86_400.0),
     ("Fri, 27 Nov 2026 12:00:30 GMT", 30.0), ("Fri, 27 Nov 2020 12:00:30 GMT", 0.0), ("²", None),
     ("Mon, 01 Jan 2027 00:00:00 +99999999999999999999", None)],
)  # fmt: skip
def test_a_wait_is_given_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now=datetime(2026, 11, 27, 12, tzinfo=UTC)) == seconds


def test_an_attempt_that_fails_in_an_unexpected_way_is_noted_like_any_other(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be made again at each end of its lease, for ever."""
    monkeypatch.setattr(delivery, "retry_after_s", Mock(side_effect=OverflowError))
    job = told(machine, receiver)
    dispatch(outbox, lambda: status(outbox, job)[1], schedule_s=(0.0, 3600.0))
    [attempt] = status(outbox, job)[1]
    assert attempt.error == "unreachable"


def test_an_error_of_one_path_keeps_no_event_of_another_back(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    receiver.reply = lambda received: Reply(500 if received.path.endswith("/broken") else 200)
    for _ in range(10):
        records.succeeded(machine, webhook_url=f"{receiver.url}/broken", webhook_events=["job.succeeded"])
    good = told(machine, receiver)
    dispatch(outbox, settled(outbox, good), schedule_s=(0.0, 3600.0))
    assert len(receiver.received) == 11


def test_of_an_answer_only_the_beginning_is_read(machine: JobStateMachine, outbox: Outbox, secret: str) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    with hook(Reply(200, {"Content-Encoding": "gzip"}, bomb), Reply(200, {}, b"y" * 5_000_000)) as receiver:
        jobs = [told(machine, receiver) for _ in range(2)]
        dispatch(outbox, settled(outbox, *jobs))
    assert all(len(status(outbox, job)[1][0].response) <= delivery.RESPONSE_BYTES for job in jobs)


def test_a_receiver_gets_the_next_event_as_soon_as_it_has_answered(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    """It gets eight at a time; the ninth came when the dispatcher next looked, a quarter of a second later."""
    jobs = [told(machine, receiver) for _ in range(20)]
    dispatch(outbox, settled(outbox, *jobs), poll_s=3600.0)
    assert len(receiver.received) == 20


def test_a_dead_receiver_delays_nobody_else(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    """It takes connections, and answers nobody."""
    with hook() as dead:
        dead.reply = late(0.5)
        for _ in range(40):
            told(machine, dead)
        jobs = [told(machine, receiver) for _ in range(10)]
        dispatch(outbox, settled(outbox, *jobs), schedule_s=(0.0, 3600.0))
        assert len(receiver.received) == 10
        assert len(dead.received) <= 16  # of each tenant eight at a time, until its circuit opens


def late(seconds: float) -> Callable[[Received], Reply]:
    def reply(_: Received) -> Reply:
        time.sleep(seconds)
        return Reply(503)

    return reply


def test_nobody_is_called_whom_the_rules_forbid(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    job = told(machine, receiver)
    dispatch(outbox, settled(outbox, job), rules=EgressRules(("hooks.example.com",)))
    state, attempts = status(outbox, job)
    assert (state, {attempt.error for attempt in attempts}) == (DeliveryStatus.FAILED, {"forbidden"})
    assert receiver.received == []


def test_nothing_is_sent_without_a_signature(machine: JobStateMachine, outbox: Outbox, receiver: Hook) -> None:
    job = told(machine, receiver)
    dispatch(outbox, settled(outbox, job))
    assert {attempt.error for attempt in status(outbox, job)[1]} == {"no_secret"}
    assert receiver.received == []


def test_a_receiver_that_is_not_there_is_unreachable(machine: JobStateMachine, outbox: Outbox, secret: str) -> None:
    with hook() as receiver:
        pass
    job = told(machine, receiver)
    dispatch(outbox, lambda: status(outbox, job)[1])
    assert status(outbox, job)[1][0].error == "unreachable"


def test_a_silent_receiver_is_hung_up_on(
    machine: JobStateMachine, outbox: Outbox, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.1)
    with hook() as receiver:
        receiver.reply = late(1.0)
        job = told(machine, receiver)
        dispatch(outbox, lambda: status(outbox, job)[1], schedule_s=(0.0, 3600.0))
    assert status(outbox, job)[1][0].error == "timeout"


def test_what_cannot_be_shown_is_tried_as_often_as_anything_else(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    """By another version it may be; it came again every 30 s for two days, and nobody was told why."""
    run = records.running(machine, webhook_url=receiver.url, webhook_events=["job.failed"])
    machine.fail(run, error={"code": "of a newer version"})
    dispatch(outbox, settled(outbox, run))
    state, attempts = status(outbox, run)
    assert (state, {attempt.error for attempt in attempts}) == (DeliveryStatus.FAILED, {"unreadable"})


def test_a_test_is_sent_once(outbox: Outbox, secret: str) -> None:
    with hook(Reply(500)) as receiver:
        outbox.post(id="evt_test_1", type="webhook.test", tenant="open", url=receiver.url)
        dispatch(outbox, lambda: _status(outbox, "evt_test_1") is not DeliveryStatus.PENDING)
    assert types(receiver.received, secret) == ["webhook.test"]
    assert _status(outbox, "evt_test_1") is DeliveryStatus.FAILED


def _status(outbox: Outbox, one: str) -> DeliveryStatus:
    event, _ = outbox.get(one, tenant="open") or pytest.fail("no event")
    return event.status


def test_a_test_job_can_have_its_first_delivery_fail(
    machine: JobStateMachine, outbox: Outbox, secrets: WebhookSecrets
) -> None:
    secret = secrets.create("acme/test").key
    with hook() as receiver:
        job = told(machine, receiver, tenant="acme/test", external_id="test_webhook_500")
        live = told(machine, receiver, external_id="test_webhook_500")
        dispatch(outbox, lambda: receiver.received and status(outbox, live)[1])
    _, [first, second] = outbox.get(event_id(job.id), tenant="acme/test") or pytest.fail("no event")
    assert (first.status_code, second.status_code) == (500, 204)
    assert receiver.received[0].verified(secret)["data"]["livemode"] is False
    assert status(outbox, live)[1][0].error == "no_secret"


def test_several_dispatchers_send_each_event_once(
    machine: JobStateMachine, outbox: Outbox, secret: str, receiver: Hook
) -> None:
    jobs = [told(machine, receiver) for _ in range(60)]

    dispatch(outbox, settled(outbox, *jobs), n_dispatchers=3)
    assert receiver.ids == {event_id(job.id): 1 for job in jobs}
