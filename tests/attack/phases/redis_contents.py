"""Redis contents that nobody can read, written by hand into a running service: records, indexes, queues; then healed.

What is damaged belongs to an attacker's tenant, or to all, for a moment: then it is set aside and put back.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from random import Random
from typing import cast

from redis import Redis
from redis.exceptions import ResponseError
from rq.job import Job as RqJob

from app.core.jobs.models import Job, JobState, new_job_id
from app.core.jobs.queue import ScoreQueue
from tests.attack.phase import Attack
from tests.attack.target import ATTACKERS, NO_ANSWER
from tests.conftest import KEYS

#: What every damage is left to do; longer than two passes of the reconciler, now and then.
DAMAGED_S = (0.3, 8.0)
HEALTHY_S = (0.3, 1.0)
TENANT = ATTACKERS[2]

#: A field of a record, and JSON that it must not have, or that is none.
BAD_FIELDS: tuple[tuple[str, bytes], ...] = (
    ("status", b"{"),
    ("status", b""),
    ("status", b"\xff\xfe"),
    ("status", b'"flying"'),
    ("status", b"17"),
    ("status", b"null"),
    ("attempt", b'"many"'),
    ("attempt", b"1e400"),
    ("attempt", b"-1"),
    ("handed_back", b'"x"'),
    ("lease_until", b'"soon"'),
    ("lease_until", b"null"),
    ("lease_until", b"1e300"),
    ("deadline", b"[]"),
    ("deadline", b'"never"'),
    ("created_at", b'"yesterday"'),
    ("created_at", b"1e300"),
    ("started_at", b"{}"),
    ("finished_at", b"NaN"),
    ("estimated_s", b'"long"'),
    ("estimated_s", b"-1e300"),
    ("audio", b"17"),
    ("audio", b"[" * 100_000),
    ("progress", b"null"),
    ("progress", b'{"stage": 1}'),
    ("timings", b'"x"'),
    ("metadata", b"[1]"),
    ("result", b'"x"'),
    ("error", b"3"),
    ("error", b'{"code": "unheard_of"}'),
    ("model", b"{}"),
    ("storage_key", b'"../../etc/passwd"'),
    ("storage_key", b"5"),
    ("storage_key", b'"never-stored"'),
    ("tenant", b"7"),
    ("batch_id", b'":items"'),
    ("batch_id", b"[]"),
    ("worker", b"1"),
    ("idempotency", b"{}"),
    ("cancel_requested_at", b'"now"'),
    ("version", b'"newest"'),
    ("of_a_newer_version", b'{"any": "thing"}'),
    ("of_a_newer_version", b"no JSON"),
)
#: The names of what belongs to one job.
NAMES = (KEYS.record, KEYS.events, KEYS.tombstone)
#: Ids that a queue or an index must not hold.
BAD_IDS = (b"", b"\xff\xfe", b"no job", b"job_" + b"0" * 32, b":", b"a:b", b"x" * 1_000_000)


def redis_contents(attack: Attack) -> None:
    attack.inflict(DAMAGES, for_s=DAMAGED_S, rest_s=HEALTHY_S)


@contextmanager
def bad_record(attack: Attack) -> Iterator[None]:
    """A few records, each with a field that cannot be read, where a job of their state would stand."""
    with attack.target.redis() as redis:
        ids = [new_job_id() for _ in range(6)]
        try:
            for job_id in ids:
                plant(redis, job_id, attack.dice)
            look_at(attack, ids)
            yield
        finally:
            for job_id in ids:
                uproot(redis, job_id)


@contextmanager
def record_of_another_type(attack: Attack) -> Iterator[None]:
    """The names of a job's keys with values of other types behind them."""
    with attack.target.redis() as redis:
        job_id = new_job_id()
        try:
            plant(redis, job_id, attack.dice, field=("version", b"1"))
            key = attack.dice.choice([*NAMES, RqJob.key_for])(job_id)
            write_other_type(redis, key, attack.dice)
            look_at(attack, [job_id])
            yield
        finally:
            uproot(redis, job_id)


@contextmanager
def bad_ids(attack: Attack) -> Iterator[None]:
    """Ids of nothing in the queue and in every index."""
    queue, at = ScoreQueue(Redis(), name="scores").rq, time.time()
    lists = (queue.key, queue.intermediate_queue_key)
    indexes = (KEYS.unfinished, KEYS.waiting, KEYS.deadlines, queue.started_job_registry.key)
    with attack.target.redis() as redis:
        try:
            for job_id in BAD_IDS:
                for name in lists:
                    redis.lpush(name, job_id)
                for name in indexes:
                    redis.zadd(name, {job_id: at})
                redis.hset(KEYS.running, job_id, attack.dice.choice(["", "{", "[]", '{"audio_s": "x"}', "{}"]))
            look_at(attack, [])
            yield
        finally:
            for job_id in BAD_IDS:
                for name in lists:
                    redis.lrem(name, 0, cast(str, job_id))
                for name in indexes:
                    redis.zrem(name, job_id)
                redis.hdel(KEYS.running, job_id)
                redis.delete(RqJob.key_for(job_id.decode("latin-1")))


@contextmanager
def bad_batch(attack: Attack) -> Iterator[None]:
    """A batch whose record, items or set of unfinished jobs are none."""
    batch_id = f"bat_{secrets.token_hex(16)}"
    keys = [name(TENANT, batch_id) for name in (KEYS.batch, KEYS.batch_items, KEYS.batch_unfinished)]
    with attack.target.redis() as redis:
        try:
            redis.hset(keys[0], mapping={"id": f'"{batch_id}"', "tenant": f'"{TENANT}"', "created_at": "1"})
            redis.rpush(keys[1], "{", '"job_x"', "17")
            key = attack.dice.choice(keys)
            write_other_type(redis, key, attack.dice)
            with attack.target.client(TENANT) as client, suppress(*NO_ANSWER):
                client.get(f"/batches/{batch_id}")
                client.get(f"/batches/{batch_id}:items")
            yield
        finally:
            redis.delete(*keys)


@contextmanager
def bad_key(attack: Attack) -> Iterator[None]:
    """An API key whose record cannot be read."""
    with attack.target.redis() as redis:
        try:
            redis.hset(KEYS.api_keys, "broken", attack.dice.choice(["{", "[]", "null", '{"id": 1}', "\xff"]))
            with attack.target.client(TENANT) as client, suppress(*NO_ANSWER):
                client.get("/jobs", headers={"Authorization": "Bearer msk_live_broken_secret"})
            yield
        finally:
            redis.hdel(KEYS.api_keys, "broken")


@contextmanager
def shared_key_of_another_type(attack: Attack) -> Iterator[None]:
    """A key that all tenants share, set aside, with a value of another type in its place."""
    queue = ScoreQueue(Redis(), name="scores").rq
    shared = (
        KEYS.model,
        KEYS.missing_sandbox_layers,
        KEYS.throughput,
        KEYS.api_key_last_uses,
        KEYS.unfinished,
        KEYS.waiting,
        KEYS.deadlines,
        KEYS.running,
        KEYS.by_created(TENANT),
        KEYS.in_flight(TENANT),
        queue.key,
        queue.intermediate_queue_key,
        queue.started_job_registry.key,
        "rq:workers:scores",
    )
    key = attack.dice.choice(shared)
    attack.acts.did(f"  {key}")
    with attack.target.redis() as redis, set_aside(redis, key):
        write_other_type(redis, key, attack.dice)
        look_at(attack, [])
        yield


@contextmanager
def set_aside(redis: Redis, key: str) -> Iterator[None]:
    """The key is free for as long as the block, and then what it was."""
    aside = f"attack:{secrets.token_hex(8)}"
    try:
        was_there = redis.rename(key, aside)
    except ResponseError:  # there is no such key
        was_there = False
    try:
        yield
    finally:
        redis.delete(key)
        if was_there:
            redis.rename(aside, key)


def write_other_type(redis: Redis, key: str, dice: Random) -> None:
    """Any value but the right one, which may be of the right type by chance, and then is nonsense.

    In one step with the end of the value before: the service writes to this key, too.
    """
    with redis.pipeline(transaction=True) as step:
        step.delete(key)
        writes: tuple[Callable[[], object], ...] = (
            lambda: step.set(key, dice.choice([b"", b"{", b"\xff\xfe", b"17", b'"x"', b"x" * 100_000])),
            lambda: step.rpush(key, b"\xff", b"{", b""),
            lambda: step.sadd(key, b"\xff", b"{", b""),
            lambda: step.hset(key, mapping={b"\xff": b"{", b"status": b"\xff"}),
            lambda: step.zadd(key, {b"\xff": float("inf"), b"{": -1.0, b"": 1e300}),
            lambda: step.xadd(key, {b"\xff": b"{"}),
        )
        dice.choice(writes)()
        step.execute()


def plant(redis: Redis, job_id: str, dice: Random, field: tuple[str, bytes] | None = None) -> None:
    """A record by hand, in a drawn state, one field of it bad, and its id wherever such a job's id stands."""
    name, value = field or dice.choice(BAD_FIELDS)
    status = dice.choice(list(JobState))
    at = time.time()
    job = Job(id=job_id, storage_key=job_id, tenant=TENANT, status=status, deadline=at + 3600, attempt=1)
    redis.hset(KEYS.record(job_id), mapping={**job.to_fields(), name: value})  # type: ignore[dict-item]
    redis.zadd(KEYS.by_created(TENANT), {job_id: at})
    if not status.done:
        for index in (KEYS.unfinished, KEYS.waiting, KEYS.in_flight(TENANT), KEYS.deadlines):
            redis.zadd(index, {job_id: at})
        redis.rpush(ScoreQueue(redis, name="scores").rq.key, job_id)


def uproot(redis: Redis, job_id: str) -> None:
    """What `plant` wrote, and what came of it."""
    queue = ScoreQueue(redis, name="scores").rq
    for key in (*(name(job_id) for name in NAMES), RqJob.key_for(job_id)):
        redis.delete(key, f"{key}:set_aside")  # where the service puts what has the wrong type
    for index in (KEYS.unfinished, KEYS.waiting, KEYS.deadlines):
        redis.zrem(index, job_id)
    for index in (KEYS.by_created(TENANT), KEYS.in_flight(TENANT)):
        redis.zrem(index, job_id)
    redis.hdel(KEYS.running, job_id)
    for name in (queue.key, queue.intermediate_queue_key):
        redis.lrem(name, 0, job_id)


def look_at(attack: Attack, ids: list[str]) -> None:
    """Ask for everything in which the damage could show."""
    with attack.target.client(TENANT) as client, suppress(*NO_ANSWER):
        for path in ("/jobs", "/jobs?status=queued", "/capacity", "/model", "/readyz"):
            client.get(path)
        for job_id in ids:
            client.get(f"/jobs/{job_id}")
            with client.stream("GET", f"/jobs/{job_id}/events"):
                """Its beginning is enough."""
        for job_id in ids[::2]:
            client.post(f"/jobs/{job_id}/cancel")
        for job_id in ids[::3]:
            client.delete(f"/jobs/{job_id}")


DAMAGES: dict[str, Callable[[Attack], AbstractContextManager[object]]] = {
    "records with a bad field": bad_record,
    "a record of another type": record_of_another_type,
    "ids of nothing": bad_ids,
    "a bad batch": bad_batch,
    "a bad API key": bad_key,
    "a shared key of another type": shared_key_of_another_type,
}
