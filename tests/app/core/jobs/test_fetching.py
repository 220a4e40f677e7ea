"""Jobs whose track is to be fetched: taken in turns, by one fetcher at a time, and handed to the queue in one step."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis

from app.core.jobs.backlog import BacklogLimits
from app.core.jobs.models import FetchesExhausted, Job, JobState, QueueFull, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.client import text
from app.core.storage.folder import FolderStorage
from tests.app.records import queued
from tests.conftest import KEYS
from worker.reconciler import Reconciler

LEASE_S = 60.0
ROOM = BacklogLimits(max_audio_s=10_000, tenant_share=0.5)
URL = "https://cdn.example/track?signature=hush"
PROBLEM = {"code": "url_unreachable"}


def wanted(machine: JobStateMachine, tenant: str = "acme", *, url: str = URL, **fields: object) -> Job:
    job_id = new_job_id()
    job = Job(id=job_id, storage_key=job_id, tenant=tenant, source={"url": url}, **fields)  # type: ignore[arg-type]
    return machine.create(job)[0]


def spread(n: int) -> list[str]:
    """URLs of so many hosts."""
    return [f"https://h{number}.example/track" for number in range(n)]


def take(machine: JobStateMachine, *, max_fetches: int = 8, backlog: BacklogLimits = ROOM) -> Job | None:
    """What a fetcher does first."""
    found = machine.next_fetch(max_fetches=max_fetches, lease_s=LEASE_S, backlog=backlog)
    return found and machine.begin_fetch(found.id, tenant=found.tenant, max_fetches_of_job=3)


def begun(machine: JobStateMachine) -> Job:
    job = take(machine)
    assert job
    return job


def deliver(machine: JobStateMachine, job: Job) -> bool:
    key = f"{job.id}-{job.fetch}"
    return machine.end_fetch(job, storage_key=key, audio={"sha256": "ab"}, estimated_s=120.0)


def taken_tenants(machine: JobStateMachine, n: int, *, max_fetches: int) -> list[str | None]:
    jobs = [take(machine, max_fetches=max_fetches) for _ in range(n)]
    return [job.tenant if job else None for job in jobs]


def lose_fetcher(machine: JobStateMachine, job: Job) -> None:
    """Have the lease of a fetch be over."""
    for name in ("jobs", f"of:{job.tenant}"):
        machine.redis.zadd(f"{KEYS.fetch_prefix}{name}", {job.id: 1.0})


def fetch_keys(redis: Redis) -> list[str]:
    return [text(key) for key in redis.keys(f"{KEYS.fetch_prefix}*")]


def test_a_job_is_queued_for_workers_only_once_its_track_is_there(machine: JobStateMachine) -> None:
    job = wanted(machine)
    assert (job.status, machine.queue.rq.job_ids) == (JobState.QUEUED, [])
    assert machine.start(job.id, max_attempts=3, lease_s=60) is None
    fetch = begun(machine)
    assert (fetch.id, fetch.fetch, fetch.source) == (job.id, 1, {"url": URL})
    assert deliver(machine, fetch)
    assert machine.queue.rq.job_ids == [job.id]
    after = machine.start(job.id, max_attempts=3, lease_s=60)
    assert after
    assert (after.storage_key, after.source, after.estimated_s) == (f"{job.id}-1", None, 120.0)
    assert fetch_keys(machine.redis) == []


def test_handing_over_again_because_the_answer_was_lost_counts_once(machine: JobStateMachine) -> None:
    wanted(machine)
    fetch = begun(machine)
    assert [deliver(machine, fetch), deliver(machine, fetch)] == [True, True]
    assert machine.queue.rq.job_ids == [fetch.id]


def test_one_fetcher_has_a_job_at_a_time(machine: JobStateMachine) -> None:
    wanted(machine)
    fetch = begun(machine)
    assert take(machine) is None
    assert machine.renew_fetch(fetch, lease_s=LEASE_S)
    assert take(machine) is None


def test_the_job_of_a_fetcher_that_died_is_fetched_again_and_the_late_one_changes_nothing(
    machine: JobStateMachine,
) -> None:
    wanted(machine)
    late = begun(machine)
    lose_fetcher(machine, late)
    again = begun(machine)
    assert (again.id, again.fetch) == (late.id, 2)
    assert not machine.renew_fetch(late, lease_s=LEASE_S)
    assert not deliver(machine, late)
    assert not machine.fail_fetch(late, error=PROBLEM)
    assert not machine.fetch_later(late, pause_s=1)
    assert deliver(machine, again)
    assert not machine.fail_fetch(again, error=PROBLEM), "it is the workers' by now"


def test_a_job_is_fetched_so_often_and_uncounted_fetches_are_no_part_of_it(machine: JobStateMachine) -> None:
    wanted(machine)
    machine.fetch_later(begun(machine), pause_s=0, counted=False)
    for number in (2, 3, 4):
        fetch = begun(machine)
        assert fetch.fetch == number
        assert machine.fetch_later(fetch, pause_s=0)
    with pytest.raises(FetchesExhausted):
        take(machine)


def test_a_pause_is_kept(machine: JobStateMachine) -> None:
    first, second = wanted(machine), wanted(machine)
    assert machine.fetch_later(begun(machine), pause_s=600)
    assert begun(machine).id == second.id
    assert take(machine) is None
    assert machine.store.get(first.id)


def test_urls_of_a_tenant_are_fetched_in_the_order_in_which_they_came(machine: JobStateMachine) -> None:
    jobs = [wanted(machine) for _ in range(4)]
    taken = [take(machine, max_fetches=100) for _ in range(4)]
    assert [job and job.id for job in taken] == [job.id for job in jobs]


def test_tenants_take_turns_however_many_urls_one_has_sent(machine: JobStateMachine) -> None:
    for _ in range(9):
        wanted(machine, "many")
    wanted(machine, "few")
    wanted(machine, "few")
    assert taken_tenants(machine, 4, max_fetches=100) == ["many", "few", "many", "few"]


def test_one_tenant_leaves_room_for_the_others(machine: JobStateMachine) -> None:
    for url in spread(9):
        wanted(machine, "many", url=url)
    assert taken_tenants(machine, 5, max_fetches=8) == ["many"] * 4 + [None]
    wanted(machine, "few")
    assert taken_tenants(machine, 1, max_fetches=8) == ["few"]


def test_the_tenant_of_a_service_without_keys_shares_with_nobody(machine: JobStateMachine) -> None:
    for url in spread(3):
        wanted(machine, "open", url=url)
    assert taken_tenants(machine, 3, max_fetches=2) == ["open", "open", None]


def hosts(*jobs: Job | None) -> list[str | None]:
    return [urlsplit(str((job.source or {})["url"])).hostname if job else None for job in jobs]


@pytest.mark.parametrize("n_slow", [4, 1200])
def test_a_slow_host_leaves_room_for_the_other_hosts_of_its_tenant(machine: JobStateMachine, n_slow: int) -> None:
    for url in ["https://slow.example/x"] * n_slow + ["https://quick.example/x"] * 3:
        wanted(machine, url=url)
    taken = hosts(*[job for job in (take(machine) for _ in range(10)) if job])
    assert sorted(taken, key=str) == ["quick.example", "slow.example", "slow.example"]


def test_a_host_alone_leaves_one_fetch_to_hosts_that_come_later(machine: JobStateMachine) -> None:
    for _ in range(9):
        wanted(machine, "open", url="https://slow.example/x")
    assert hosts(*(take(machine) for _ in range(8))) == ["slow.example"] * 7 + [None]
    late = wanted(machine, "open", url="https://QUICK.example:443/x")
    assert begun(machine).id == late.id
    assert take(machine) is None


def test_hosts_of_a_tenant_take_turns(machine: JobStateMachine) -> None:
    for url in ("https://a.example/", "https://a.example/", "https://b.example/", "https://b.example/"):
        wanted(machine, url=url)
    assert hosts(*(take(machine, max_fetches=100) for _ in range(4))) == [
        *("a.example", "b.example"),
        *("a.example", "b.example"),
    ]


def test_a_job_that_was_due_before_this_version_is_fetched(machine: JobStateMachine) -> None:
    job = wanted(machine)
    assert machine.redis.zscore(f"{KEYS.fetch_prefix}of:acme", job.id), "where an older version puts it"
    assert begun(machine).id == job.id


def test_a_job_that_ends_while_it_is_due_leaves_its_host(machine: JobStateMachine) -> None:
    jobs = [wanted(machine) for _ in range(3)]
    fetch = begun(machine)
    for job in jobs:
        machine.cancel(job)
    assert fetch_keys(machine.redis) == []
    assert fetch.id == jobs[0].id


def test_nothing_is_fetched_for_which_the_queue_has_no_room(machine: JobStateMachine) -> None:
    wanted(machine)
    queued(machine, tenant="acme", estimated_s=100.0)
    assert take(machine, backlog=BacklogLimits(100.0, 0.5)) is None, "the queue is full"
    assert take(machine, backlog=BacklogLimits(150.0, 0.5)) is None, "the tenant has its share"
    assert take(machine, backlog=BacklogLimits(250.0, 0.5))


@pytest.mark.parametrize("end", ["cancel", "purge", "fail", "stop"])
def test_a_job_that_ends_meanwhile_is_not_fetched_and_its_url_is_gone(machine: JobStateMachine, end: str) -> None:
    wanted(machine)
    fetch = begun(machine)
    ends = {
        "cancel": lambda: machine.cancel(fetch),
        "purge": lambda: machine.purge(fetch),
        "fail": lambda: machine.fail_fetch(fetch, error=PROBLEM),
        "stop": lambda: machine.stop(fetch, reason="deadline_exceeded"),  # type: ignore[arg-type]
    }
    ends[end]()  # type: ignore[no-untyped-call]
    assert not machine.renew_fetch(fetch, lease_s=LEASE_S)
    assert not deliver(machine, fetch)
    assert fetch_keys(machine.redis) == []
    assert b"source" not in machine.redis.hgetall(KEYS.record(fetch.id))
    assert machine.queue.rq.job_ids == []


def test_an_overdue_job_is_canceled_without_a_fetch(machine: JobStateMachine) -> None:
    job = wanted(machine, deadline=1.0)
    assert take(machine) is None
    after = machine.store.get(job.id)
    assert after
    assert (after.status, after.status_reason) == (JobState.CANCELED, "deadline_exceeded")


def test_known_scores_end_the_job_without_a_run(machine: JobStateMachine) -> None:
    wanted(machine)
    fetch = begun(machine)
    audio = {"sha256": "ab", "duration_s": 100.0}
    assert machine.succeed_fetch(fetch, audio=audio, estimated_s=100.0, result={"scores": {}}, cached=True)
    after = machine.store.get(fetch.id)
    assert after
    assert (after.status, after.cached, after.source) == (JobState.SUCCEEDED, True, None)


def test_no_more_urls_are_taken_than_may_wait(machine: JobStateMachine) -> None:
    wanted(machine)
    job = Job(id="job_2", storage_key="job_2", source={"url": URL})
    with pytest.raises(QueueFull):
        machine.create(job, max_unfetched=1)
    assert machine.store.get("job_2") is None


def test_the_reconciler_leaves_jobs_alone_that_are_to_be_fetched(machine: JobStateMachine, data_dir: Path) -> None:
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    jobs = [wanted(machine) for _ in range(3)]
    fetch = begun(machine)
    assert [reconciler.run() for _ in range(3)] == [[], [], []]
    assert machine.queue.rq.job_ids == []
    assert deliver(machine, fetch)
    assert [begun(machine).id, begun(machine).id] == [jobs[1].id, jobs[2].id]


def test_the_reconciler_finds_jobs_that_the_list_of_fetches_has_lost(machine: JobStateMachine, data_dir: Path) -> None:
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    job = wanted(machine)
    machine.redis.delete(*fetch_keys(machine.redis))
    assert take(machine) is None
    for _ in range(3):
        reconciler.run()
    assert begun(machine).id == job.id


def test_the_reconciler_stops_an_overdue_job_that_nobody_fetches(machine: JobStateMachine, data_dir: Path) -> None:
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    job = wanted(machine, deadline=1.0)
    reconciler.run()
    after = machine.store.get(job.id)
    assert after
    assert after.status is JobState.CANCELED
    assert fetch_keys(machine.redis) == []
