"""Rate limits: what is left after a use, and when there is more."""

import time

import pytest
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.auth.rate_limits import DAY_S, LAST_USE_EVERY_S, MINUTE_S, Quotas
from app.core.callers import Caller, Limits
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import Problem
from tests.app.records import queued
from tests.conftest import KEYS

LIMITS = Limits(requests_per_minute=60, jobs_in_flight=2, bytes_per_day=1000)
CALLER = Caller("acme", "key1", limits=LIMITS)


@pytest.fixture
def quotas(redis: Redis) -> Quotas:
    return Quotas(redis, KEYS)


def left(quotas: Quotas) -> dict[str, int]:
    standing = quotas.consume(CALLER)
    assert standing
    return {each.policy: each.remaining for each in standing.limits}


def test_a_caller_without_a_key_has_no_limits(quotas: Quotas) -> None:
    assert quotas.consume(Caller(), requests=10**9) is None


def test_the_headers_say_limits_and_what_is_left(quotas: Quotas, machine: JobStateMachine) -> None:
    queued(machine, tenant="acme")
    standing = quotas.consume(CALLER, requests=1, n_bytes=250)
    assert standing
    assert standing.headers() == {
        "RateLimit-Policy": '"burst";q=60;w=60, "inflight";q=2;qu="concurrent-requests", '
        '"bytes";q=1000;w=86400;qu="content-bytes"',
        "RateLimit": '"burst";r=59;t=1, "inflight";r=1, "bytes";r=750;t=21600',
    }


def test_exactly_the_limit_can_be_taken_at_once(quotas: Quotas) -> None:
    standings = [quotas.consume(CALLER, requests=1) for _ in range(61)]
    assert [bool(standing and standing.exceeded) for standing in standings] == [False] * 60 + [True]
    last = standings[-1]
    assert last
    assert (last.exceeded, last.retry_after_s) == (("burst",), 1)


def test_after_the_promised_time_there_is_room_again(quotas: Quotas) -> None:
    for _ in range(60):
        quotas.consume(CALLER, requests=1)
    refused = quotas.consume(CALLER, requests=1)
    assert refused
    time.sleep(refused.retry_after_s)
    again = quotas.consume(CALLER, requests=1)
    assert again
    assert not again.exceeded


def test_a_refusal_takes_nothing(quotas: Quotas) -> None:
    quotas.consume(CALLER, requests=60)
    quotas.consume(CALLER, requests=1, n_bytes=500)
    assert left(quotas)["bytes"] == 1000


def test_bytes_can_be_given_back_and_overdrawn(quotas: Quotas) -> None:
    quotas.consume(CALLER, n_bytes=1000)
    assert left(quotas)["bytes"] == 0
    quotas.consume(CALLER, n_bytes=-600, force=True)
    assert left(quotas)["bytes"] == 600
    quotas.consume(CALLER, n_bytes=1600, force=True)
    assert left(quotas)["bytes"] == 0
    refused = quotas.consume(CALLER, n_bytes=1)
    assert refused
    assert refused.exceeded == ("bytes",)
    assert 0 < refused.retry_after_s <= DAY_S / 1000 + 1, "what was overdrawn is forgotten: a meter is full at most"


def test_more_than_was_taken_cannot_be_given_back(quotas: Quotas) -> None:
    quotas.consume(CALLER, n_bytes=-(10**6), force=True)
    assert left(quotas)["bytes"] == 1000


def test_unfinished_jobs_of_the_tenant_count_themselves(quotas: Quotas, machine: JobStateMachine) -> None:
    jobs = [queued(machine, tenant="acme") for _ in range(2)]
    refused = quotas.consume(CALLER, jobs=1)
    assert refused
    assert refused.exceeded == ("inflight",)
    with pytest.raises(Problem) as caught:
        refused.raise_if_exceeded()
    assert caught.value.extensions == {"violated_policies": ["inflight"]}
    assert int(caught.value.headers["Retry-After"]) >= 1
    machine.cancel(jobs[0])
    allowed = quotas.consume(CALLER, jobs=1)
    assert allowed
    assert not allowed.exceeded


def test_every_limit_that_is_reached_is_named(quotas: Quotas, machine: JobStateMachine) -> None:
    for _ in range(2):
        queued(machine, tenant="acme")
    quotas.consume(CALLER, requests=60, n_bytes=1000)
    refused = quotas.consume(CALLER, requests=1, n_bytes=1, jobs=1)
    assert refused
    assert refused.exceeded == ("burst", "bytes", "inflight")


def test_keys_do_not_share_requests_or_bytes(quotas: Quotas) -> None:
    quotas.consume(CALLER, requests=60, n_bytes=1000)
    other = quotas.consume(Caller("acme", "key2", limits=LIMITS), requests=1, n_bytes=1)
    assert other
    assert not other.exceeded


def test_what_is_counted_is_forgotten_when_it_has_drained(quotas: Quotas, redis: Redis) -> None:
    quotas.consume(CALLER, requests=60, n_bytes=1000)
    assert MINUTE_S - 2 <= redis.ttl("apex:quota:requests:key1") <= MINUTE_S + 1
    assert DAY_S - 2 <= redis.ttl("apex:quota:bytes:key1") <= DAY_S + 1


def test_the_last_use_of_a_key_is_noted_once_a_minute(quotas: Quotas, redis: Redis) -> None:
    def noted() -> float:
        return KeyStore(redis, KEYS).last_uses()["key1"]

    assert KeyStore(redis, KEYS).last_uses() == {}
    quotas.consume(CALLER, n_bytes=1)
    assert KeyStore(redis, KEYS).last_uses() == {}, "bytes are part of a request that was counted"
    quotas.consume(CALLER, requests=1)
    first = noted()
    assert abs(first - time.time()) < 10
    quotas.consume(CALLER, requests=1)
    assert noted() == first
    redis.hset(KEYS.api_key_last_uses, "key1", first - LAST_USE_EVERY_S)
    quotas.consume(CALLER, requests=60)  # refused, and a use all the same
    assert noted() >= first


def test_no_key_means_no_last_use(quotas: Quotas, redis: Redis) -> None:
    quotas.consume(Caller(), requests=1)
    assert KeyStore(redis, KEYS).last_uses() == {}
