"""Idempotency keys in Redis: who has the claim, for how long, and what other requests get meanwhile and afterwards."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from app.api.schemas.options import TrackOptions
from app.api.submissions.idempotency import (
    MAX_TTL_S,
    Claim,
    Completed,
    IdempotencyKeys,
    InProgress,
    StoredResponse,
    fingerprint,
)
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio

SCOPE = {"tenant": "acme", "route": "POST /score", "key": "k"}
ANSWER = StoredResponse(202, {"Location": "/jobs/job_1"}, '{"id":"ü"}'.encode())
PRINTS = {"fingerprint": "f", "body_fingerprint": "r"}
LEASE_S = 0.6


@pytest.fixture
def keys(redis: Redis) -> IdempotencyKeys:
    return IdempotencyKeys(redis, KEYS, result_ttl_s=3600)


@pytest.fixture
def hasty(redis: Redis) -> IdempotencyKeys:
    return IdempotencyKeys(redis, KEYS, result_ttl_s=3600, lease_s=LEASE_S)


def claimed(keys: IdempotencyKeys) -> Claim:
    claim = keys.begin(**SCOPE)
    assert isinstance(claim, Claim)
    return claim


def test_of_a_thousand_at_once_one_works(keys: IdempotencyKeys) -> None:
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: keys.begin(**SCOPE), range(1000)))
    [claim] = [each for each in found if isinstance(each, Claim)]
    assert {each for each in found if each is not claim} == {InProgress(claim.job_id)}


def test_an_answer_comes_back_byte_for_byte(keys: IdempotencyKeys) -> None:
    keys.complete(claimed(keys), ANSWER, **PRINTS)
    assert keys.begin(**SCOPE) == Completed(ANSWER, **PRINTS)


def test_a_key_belongs_to_a_tenant_and_a_route(keys: IdempotencyKeys) -> None:
    keys.complete(claimed(keys), ANSWER, **PRINTS)
    for other in ({"tenant": "b"}, {"route": "POST /batches"}, {"key": "K"}):
        assert isinstance(keys.begin(**SCOPE | other), Claim)


def test_a_claim_given_up_is_free_and_names_the_same_job(keys: IdempotencyKeys) -> None:
    first = claimed(keys)
    keys.release(first)
    second = claimed(keys)
    assert (first.taken_over, second.taken_over, second.job_id) == (False, True, first.job_id)


def test_the_claim_of_a_dead_request_is_taken_over_after_its_lease_and_its_writes_fail(hasty: IdempotencyKeys) -> None:
    dead = claimed(hasty)
    assert hasty.begin(**SCOPE) == InProgress(dead.job_id)
    time.sleep(LEASE_S)
    successor = claimed(hasty)
    assert (successor.job_id, successor.taken_over) == (dead.job_id, True)
    assert not hasty.renew(dead)
    hasty.complete(dead, ANSWER, **PRINTS)
    hasty.release(dead)
    assert hasty.begin(**SCOPE) == InProgress(dead.job_id)


def test_an_answer_can_be_stored_anew_by_its_owner_and_is_not_given_up(keys: IdempotencyKeys) -> None:
    claim = claimed(keys)
    keys.complete(claim, ANSWER, **PRINTS)
    later = StoredResponse(200, {}, b"{}")
    keys.complete(claim, later, **PRINTS)
    keys.release(claim)
    assert keys.begin(**SCOPE) == Completed(later, **PRINTS)


async def test_a_claim_is_renewed_during_the_block(hasty: IdempotencyKeys) -> None:
    claim = claimed(hasty)
    async with hasty.keep_alive(claim):
        await asyncio.sleep(3 * LEASE_S)
        assert hasty.begin(**SCOPE) == InProgress(claim.job_id)
    await asyncio.sleep(2 * LEASE_S)
    assert isinstance(hasty.begin(**SCOPE), Claim)


async def test_a_failure_gives_the_claim_up_at_once(keys: IdempotencyKeys) -> None:
    with pytest.raises(RuntimeError):
        async with keys.keep_alive(claimed(keys)):
            raise RuntimeError
    assert isinstance(keys.begin(**SCOPE), Claim)


async def test_without_redis_a_failure_is_still_the_failure(
    keys: IdempotencyKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_keys: IdempotencyKeys, _claim: Claim) -> None:
        raise ConnectionError

    claim = claimed(keys)
    monkeypatch.setattr(IdempotencyKeys, "release", refuse)
    with pytest.raises(RuntimeError):
        async with keys.keep_alive(claim):
            raise RuntimeError


async def test_a_renewal_that_fails_is_tried_again(hasty: IdempotencyKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    renew, failed = IdempotencyKeys.renew, list[Claim]()

    def refuse_once(keys: IdempotencyKeys, claim: Claim) -> bool:
        if not failed:
            failed.append(claim)
            raise ConnectionError
        return renew(keys, claim)

    monkeypatch.setattr(IdempotencyKeys, "renew", refuse_once)
    claim = claimed(hasty)
    async with hasty.keep_alive(claim):
        await asyncio.sleep(3 * LEASE_S)
        assert hasty.begin(**SCOPE) == InProgress(claim.job_id)
    assert failed


@pytest.mark.parametrize(("result_ttl_s", "ttl_s"), [(60, 60), (10**6, MAX_TTL_S)])
def test_an_entry_lives_a_day_and_no_longer_than_a_job(redis: Redis, result_ttl_s: int, ttl_s: int) -> None:
    keys = IdempotencyKeys(redis, KEYS, result_ttl_s=result_ttl_s)
    claim = claimed(keys)
    assert ttl_s - 1 <= redis.ttl(claim.entry) <= ttl_s
    redis.expire(claim.entry, 5)
    keys.complete(claim, ANSWER, **PRINTS)
    assert ttl_s - 1 <= redis.ttl(claim.entry) <= ttl_s


def test_a_fingerprint_is_of_the_bytes_and_of_what_is_said_about_them() -> None:
    prints = [
        fingerprint("a", TrackOptions()),
        fingerprint("b", TrackOptions()),
        fingerprint("a", TrackOptions(external_id="x")),
        fingerprint("a", TrackOptions.model_validate({"metadata": '{"a": "1", "b": "2"}'})),
    ]
    assert len(set(prints)) == 4
    assert prints[3] == fingerprint("a", TrackOptions.model_validate({"metadata": '{"b":"2","a":"1"}'}))
