"""Tenants take turns in the queue, by seconds of audio; the list of RQ, the positions and the counts agree."""

import random
from collections import defaultdict
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from rq.job import Job as RqJob

from app.core.jobs.backlog import Backlog
from app.core.jobs.models import Job, Orphan, new_job_id
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.redis.client import text
from app.core.storage.folder import FolderStorage
from tests.app.records import queued
from tests.conftest import KEYS, state_machine
from worker.reconciler import Reconciler

SHORT_S, LONG_S = 60.0, 180.0


@pytest.fixture
def status(redis: Redis) -> QueueStatus:
    return QueueStatus(redis, KEYS)


@pytest.fixture
def reconciler(machine: JobStateMachine, data_dir: Path) -> Reconciler:
    return Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)


def send(machine: JobStateMachine, tenant: str, n: int = 1, audio_s: float = SHORT_S) -> list[Job]:
    return [queued(machine, tenant=tenant, estimated_s=audio_s) for _ in range(n)]


def ids(*jobs: Job) -> list[str]:
    return [job.id for job in jobs]


def begin(machine: JobStateMachine) -> Job:
    """What a worker does: take the first id, and begin its job."""
    job_id = machine.redis.lpop(machine.queue.rq.key)
    assert isinstance(job_id, bytes)
    machine.redis.delete(RqJob.key_for(text(job_id)))
    run = machine.start(text(job_id), max_attempts=3, lease_s=60)
    assert run
    return run


def lose_list(machine: JobStateMachine) -> None:
    rq = machine.queue.rq
    machine.redis.delete(rq.key, *(RqJob.key_for(job_id) for job_id in rq.job_ids))


def waiting(machine: JobStateMachine) -> list[str]:
    return [text(job_id) for job_id in cast(list[bytes], machine.redis.zrange(KEYS.waiting, 0, -1))]


def counted(machine: JobStateMachine) -> Backlog:
    """The backlog by the records of what waits."""
    audio_s = defaultdict[str, float](float)
    jobs = [job for job in machine.store.get_many(waiting(machine)) if job]
    for job in jobs:
        audio_s[job.tenant] += job.estimated_s
    return Backlog(len(jobs), sum(audio_s.values()), audio_s)


@pytest.mark.parametrize("n_heavy", [10, 200, 1000])
def test_a_light_tenant_waits_for_one_job_of_a_heavy_one_however_many_it_sent(
    machine: JobStateMachine, status: QueueStatus, n_heavy: int
) -> None:
    heavy = send(machine, "heavy", n_heavy)
    [light] = send(machine, "light")
    assert machine.queue.rq.job_ids == [heavy[0].id, light.id, *ids(*heavy[1:])]
    position = status.position(light)
    assert position
    assert (position.position, round(position.tenant_audio_s, 3)) == (2, 0.0)


def test_a_tenant_that_never_stops_sending_does_not_delay_another_more_than_by_turns(machine: JobStateMachine) -> None:
    send(machine, "heavy", 50)
    runs = list[str]()
    for _ in range(20):
        send(machine, "light")
        while True:
            send(machine, "heavy")
            runs.append(begin(machine).tenant)
            if runs[-1] == "light":
                break
    assert runs.count("heavy") <= 2 * runs.count("light")


def test_turns_are_by_seconds_of_audio(machine: JobStateMachine) -> None:
    send(machine, "short", 30, SHORT_S)
    send(machine, "long", 10, LONG_S)
    run_s = {"short": 0.0, "long": 0.0}
    for _ in range(36):
        run = begin(machine)
        run_s[run.tenant] += run.estimated_s
        assert abs(run_s["short"] - run_s["long"]) <= SHORT_S + LONG_S


def test_a_tenant_whose_tracks_are_longer_than_they_look_pays_with_later_turns(machine: JobStateMachine) -> None:
    estimated_s, run_s = {"dense": 10.0, "plain": 100.0}, {"dense": 200.0, "plain": 100.0}
    total_s = {"dense": 0.0, "plain": 0.0}
    for tenant in total_s:
        send(machine, tenant, 5, estimated_s[tenant])
    for _ in range(200):
        run = begin(machine)
        machine.succeed(run, result={}, audio={"duration_s": run_s[run.tenant]})
        total_s[run.tenant] += run_s[run.tenant]
        send(machine, run.tenant, 1, estimated_s[run.tenant])
        assert machine.queue.rq.job_ids == waiting(machine)
    # What waited before the first debt was known runs by the estimates.
    assert abs(total_s["dense"] - total_s["plain"]) <= 6 * (run_s["dense"] + run_s["plain"])


def test_debts_are_forgotten_when_nobody_waits(machine: JobStateMachine) -> None:
    send(machine, "dense", 2, 10.0)
    first, last = begin(machine), begin(machine)
    for run in (first, last):
        machine.succeed(run, result={}, audio={"duration_s": 900.0})
    assert not machine.redis.exists(KEYS.tenant_queues)


def test_a_tenant_alone_is_served_in_the_order_in_which_its_jobs_came(machine: JobStateMachine) -> None:
    jobs = [job for audio_s in (5.0, 0.0, 0.0, 900.0, 1.0) for job in send(machine, "one", audio_s=audio_s)]
    assert machine.queue.rq.job_ids == waiting(machine) == ids(*jobs)


def test_tenants_that_come_at_the_same_time_are_served_in_their_order(machine: JobStateMachine) -> None:
    heavy = send(machine, "heavy", 3)
    others = [job for n in range(1100) for job in send(machine, f"tenant-{n}")]  # more than there were tags for once
    assert machine.queue.rq.job_ids == waiting(machine) == [heavy[0].id, *ids(*others), *ids(*heavy[1:])]


def test_the_audio_before_a_job_is_that_of_all_tenants_turns(machine: JobStateMachine, status: QueueStatus) -> None:
    send(machine, "heavy", 100)
    light = send(machine, "light", 3)
    position = status.position(light[2])
    assert position
    assert position.position == 6
    before_s = status.backlog().audio_s_before("light", position.tenant_audio_s)
    assert before_s == pytest.approx(4 * SHORT_S, abs=SHORT_S)
    assert status.backlog().audio_s_before_next("other") == 0.0


def test_whatever_happens_list_positions_and_counts_agree(
    machine: JobStateMachine, status: QueueStatus, reconciler: Reconciler
) -> None:
    chance, running = random.Random(7), list[Job]()

    def create() -> None:
        send(machine, chance.choice("abc"), audio_s=chance.choice([1.5, 60.25, 900.0]))

    def start() -> None:
        if machine.queue.rq.job_ids:
            running.append(begin(machine))

    def end() -> None:
        if running:
            machine.succeed(running.pop(), result={})

    def hand_back() -> None:
        if running:
            machine.requeue(running.pop(), counted=False)
            reconciler.run()
            reconciler.run()

    def cancel() -> None:
        if held := waiting(machine):
            job = machine.store.get(chance.choice(held))
            assert job
            chance.choice([machine.cancel, machine.purge])(job)

    for _ in range(400):
        chance.choice([create, create, create, start, end, hand_back, cancel])()
        assert machine.queue.rq.job_ids == waiting(machine)
        assert status.backlog() == counted(machine)
    while machine.queue.rq.job_ids:
        start()
    assert not machine.redis.exists(KEYS.tenant_queues)


def test_a_neighbour_that_a_worker_has_just_taken_is_not_looked_for_in_vain(machine: JobStateMachine) -> None:
    heavy = send(machine, "heavy", 5)
    for _ in range(2):
        machine.redis.lmove(machine.queue.rq.key, machine.queue.rq.intermediate_queue_key)
    [light] = send(machine, "light")
    assert machine.queue.rq.job_ids == [light.id, *ids(*heavy[2:])]


def test_a_lost_list_comes_back_in_the_same_order(machine: JobStateMachine, reconciler: Reconciler) -> None:
    send(machine, "heavy", 20)
    send(machine, "light", 3)
    before = machine.queue.rq.job_ids
    assert UnfinishedJobs(machine.redis, KEYS).ids() == before  # the order in which they are queued again
    lose_list(machine)
    reconciler.run()
    reconciler.run()
    assert machine.queue.rq.job_ids == waiting(machine) == before


def test_a_job_that_waits_nowhere_waits_again(
    machine: JobStateMachine, status: QueueStatus, reconciler: Reconciler
) -> None:
    jobs = send(machine, "one", 2)
    lose_list(machine)
    machine.redis.delete(KEYS.waiting, KEYS.tenant_queues)
    reconciler.run()
    reconciler.run()
    assert machine.queue.rq.job_ids == waiting(machine)
    assert set(waiting(machine)) == set(ids(*jobs))
    assert status.backlog() == counted(machine)


@pytest.mark.parametrize("damage", ["lost", "of another type", "unreadable"])
def test_counts_that_are_wrong_are_counted_again(machine: JobStateMachine, status: QueueStatus, damage: str) -> None:
    jobs, key = send(machine, "one", 3), KEYS.tenant_queues
    if damage == "unreadable":
        machine.redis.hset(key, mapping={"one": "[", "": "{}"})
    else:
        machine.redis.delete(key)
    if damage == "of another type":
        machine.redis.set(key, "text")
    begin(machine)
    [last] = send(machine, "one")
    assert machine.queue.rq.job_ids == ids(*jobs[1:], last)
    assert status.backlog() == counted(machine)


def test_a_queue_that_an_older_version_filled_is_served_in_its_order_and_then_by_turns(
    machine: JobStateMachine, status: QueueStatus
) -> None:
    """It served first come, first served, and kept no counts: a job's score was all audio that had come before."""
    old = [job for _ in range(3) for tenant in ("a", "b") for job in send(machine, tenant)]
    lose_list(machine)
    machine.redis.delete(KEYS.tenant_queues)
    machine.redis.rpush(machine.queue.rq.key, *ids(*old))
    machine.redis.zadd(KEYS.waiting, {job.id: 5000.0 + n * SHORT_S for n, job in enumerate(old)})
    machine.check_counts()
    assert status.backlog() == counted(machine)
    [new], [newcomer] = send(machine, "a"), send(machine, "c")
    assert machine.queue.rq.job_ids == waiting(machine) == [old[0].id, newcomer.id, *ids(*old[1:]), new.id]


def test_a_canceled_backlog_waits_no_more(machine: JobStateMachine, status: QueueStatus) -> None:
    first, *others = send(machine, "one", 5)
    for job in others:
        machine.cancel(job)
    assert status.backlog() == Backlog(1, SHORT_S, {"one": SHORT_S})
    machine.cancel(first)
    assert status.backlog() == Backlog()
    assert not machine.redis.exists(KEYS.tenant_queues)


def test_redis_users_of_an_older_release_queue_jobs_all_the_same(redis: Redis, redis_url: str) -> None:
    """Their commands lack LINSERT: the job goes to the end."""
    redis.acl_setuser("older", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-linsert"])
    try:
        with Redis.from_url(redis_url.replace("://", "://older:@")) as client:
            machine = state_machine(client)
            sent = [*send(machine, "heavy", 3), *send(machine, "light")]
            assert machine.queue.rq.job_ids == ids(*sent)
    finally:
        redis.acl_deluser("older")


def test_a_lost_id_is_given_to_rq_only_once(machine: JobStateMachine) -> None:
    """By the first of two reconcilers that have seen that RQ lacks it."""
    [job] = send(machine, "a")
    lose_list(machine)
    lost = Orphan(job.id, job.tenant, 0, "")
    assert machine.enqueue([lost]) == [job.id]
    assert machine.enqueue([lost]) == []
    assert len(machine.queue.rq) == 1


def test_an_id_of_no_unfinished_job_is_not_given_to_rq(machine: JobStateMachine) -> None:
    [over] = send(machine, "a")
    machine.cancel(over)
    assert machine.enqueue([Orphan(over.id, "a", 0, ""), Orphan(new_job_id(), "a", 0, "")]) == []
    assert len(machine.queue.rq) == 0
