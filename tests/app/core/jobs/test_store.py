"""The job record: what may follow what, and who wins."""

import threading
from typing import Any

import pytest
from redis import Redis

from app.core.jobs.store import (
    AttemptsExhausted,
    Job,
    JobExists,
    JobState,
    JobStore,
    QueueFull,
    QueuePosition,
    RunSignal,
    TooManyJobsInFlight,
    new_job_id,
    updates_channel,
)

EXPIRED = -1.0


def queued(store: JobStore, **values: Any) -> Job:
    job_id = new_job_id()
    job = Job(id=job_id, storage_key=job_id, **values)
    store.create(job)
    return job


def started(store: JobStore, job: Job, *, lease_s: float = 60) -> Job:
    run = store.start(job.id, max_attempts=3, lease_s=lease_s)
    assert run
    return run


def test_a_record_comes_back_as_it_was_written(store: JobStore) -> None:
    job = queued(store, metadata={"album": "ü"}, audio={"bytes": 3}, request_id="r1")
    assert store.get(job.id) == job


def test_an_unknown_id_has_no_record(store: JobStore) -> None:
    assert store.get("job_none") is None


def test_an_id_is_created_only_once(store: JobStore) -> None:
    job = queued(store)
    with pytest.raises(JobExists):
        store.create(job)


def test_a_job_runs_and_succeeds(store: JobStore) -> None:
    run = started(store, queued(store))
    assert (run.status, run.attempt) == (JobState.RUNNING, 1)
    assert store.report(run, progress={"stage": "embedding", "segments_done": 1, "segments_total": 2}) is RunSignal.OK
    assert store.succeed(run, result={"scores": {"clarity": 3.0}})
    over = store.get(run.id)
    assert over
    assert over.status is JobState.SUCCEEDED
    assert over.finished_at
    assert over.result == {"scores": {"clarity": 3.0}}
    assert store.unfinished_ids() == []


def test_a_terminal_state_never_changes(store: JobStore) -> None:
    run = started(store, queued(store))
    store.fail(run, error={"code": "audio_silent"})
    before = store.get(run.id)
    assert not store.succeed(run, result={})
    assert store.report(run, progress={}) is RunSignal.LOST
    assert not store.fail(run, error={"code": "other"})
    assert not store.requeue(run)
    assert not store.renew(run, lease_s=60)
    assert store.start(run.id, max_attempts=9, lease_s=60) is None
    assert store.get(run.id) == before


def test_a_job_in_a_live_workers_hands_is_not_started_again(store: JobStore) -> None:
    job = queued(store)
    started(store, job)
    assert store.start(job.id, max_attempts=3, lease_s=60) is None


def test_a_run_that_lost_its_lease_loses_every_write(store: JobStore) -> None:
    late = started(store, queued(store), lease_s=EXPIRED)
    current = started(store, late)
    assert current.attempt == 2
    assert not store.succeed(late, result={"from": "the late run"})
    assert not store.renew(late, lease_s=60)
    assert store.succeed(current, result={"from": "the current run"})


def test_a_renewed_lease_keeps_the_job(store: JobStore) -> None:
    run = started(store, queued(store), lease_s=EXPIRED)
    assert store.is_orphaned(run)
    assert store.renew(run, lease_s=60)
    held = store.get(run.id)
    assert held
    assert not store.is_orphaned(held)
    assert store.start(run.id, max_attempts=3, lease_s=60) is None


def test_a_released_job_can_be_started_at_once(store: JobStore) -> None:
    run = started(store, queued(store))
    assert store.requeue(run)
    assert started(store, run).attempt == 2


def test_attempts_are_bounded(store: JobStore) -> None:
    job = queued(store)
    for _ in range(3):
        started(store, job, lease_s=EXPIRED)
    with pytest.raises(AttemptsExhausted):
        store.start(job.id, max_attempts=3, lease_s=60)


def test_of_many_simultaneous_starts_one_wins(store: JobStore) -> None:
    job = queued(store)
    wins: list[Job] = []

    def try_start() -> None:
        if run := store.start(job.id, max_attempts=100, lease_s=60):
            wins.append(run)

    threads = [threading.Thread(target=try_start) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1


def test_open_jobs_are_kept_and_finished_ones_expire(store: JobStore, redis: Redis) -> None:
    waiting, over = queued(store), started(store, queued(store))
    store.succeed(over, result={})
    assert store.unfinished_ids() == [waiting.id]
    assert redis.ttl(f"apex:job:{waiting.id}") == -1
    assert 0 < redis.ttl(f"apex:job:{over.id}") <= 60


def test_a_record_of_a_later_version_is_still_read(store: JobStore, redis: Redis) -> None:
    job = queued(store)
    redis.hset(f"apex:job:{job.id}", "added_later", '"x"')
    assert store.get(job.id) == job


def test_the_models_card_is_published(store: JobStore) -> None:
    assert store.model() is None
    store.publish_model({"name": "apex"})
    assert store.model() == {"name": "apex"}


def test_a_queued_job_is_canceled_at_once(store: JobStore) -> None:
    job = queued(store)
    store.cancel(job)
    over = store.get(job.id)
    assert over
    assert (over.status, over.status_reason) == (JobState.CANCELED, "by_client")
    assert store.start(job.id, max_attempts=3, lease_s=60) is None


def test_a_running_job_is_asked_to_stop(store: JobStore) -> None:
    run = started(store, queued(store))
    store.cancel(run)
    running = store.get(run.id)
    assert running
    assert running.status is JobState.RUNNING
    assert running.cancel_requested_at
    assert store.report(run, progress={}) is RunSignal.BY_CLIENT
    assert store.stop(run, reason=RunSignal.BY_CLIENT)


def test_canceling_what_is_over_does_nothing(store: JobStore) -> None:
    run = started(store, queued(store))
    store.succeed(run, result={})
    before = store.get(run.id)
    store.cancel(run)
    assert store.get(run.id) == before


def test_a_purged_job_leaves_only_a_tombstone_of_its_tenant(store: JobStore, redis: Redis) -> None:
    run = started(store, queued(store, tenant="a"))
    store.purge(run)
    assert store.get(run.id) is None
    assert store.report(run, progress={}) is RunSignal.LOST
    assert store.expired_at(run.id, tenant="a")
    assert store.expired_at(run.id, tenant="b") is None
    assert [*store.list_by_created("a")] == []
    assert store.unfinished_ids() == []
    assert redis.keys(f"*{run.id}*") == [f"apex:gone:{run.id}".encode()]


def test_everything_that_a_finished_job_owns_expires_together(store: JobStore, redis: Redis) -> None:
    run = started(store, queued(store, audio={"sha256": "5f"}))
    store.report(run, progress={})
    store.succeed(run, model={"version": "v"}, result={})
    owned = [f"apex:job:{run.id}", f"apex:events:{run.id}", "apex:scored:open:5f:v"]
    assert {redis.ttl(key) for key in owned} <= {59, 60}
    assert redis.ttl(f"apex:gone:{run.id}") > 60


def test_a_tenants_jobs_are_listed_newest_first(store: JobStore) -> None:
    jobs = [queued(store, tenant="a", created_at=float(at)) for at in range(450)]
    queued(store, tenant="b")
    assert [job_id for _, job_id in store.list_by_created("a")] == [job.id for job in reversed(jobs)]
    assert [at for at, _ in store.list_by_created("a", newest=3, oldest=2)] == [3, 2]


def test_open_jobs_of_a_tenant_are_bounded(store: JobStore) -> None:
    first = queued(store, tenant="a")
    store.create(Job(id="job_2", storage_key="2", tenant="a"), max_in_flight=2)
    with pytest.raises(TooManyJobsInFlight):
        store.create(Job(id="job_3", storage_key="3", tenant="a"), max_in_flight=2)
    store.create(Job(id="job_4", storage_key="4", tenant="b"), max_in_flight=1)
    store.cancel(first)
    store.create(Job(id="job_3", storage_key="3", tenant="a"), max_in_flight=2)
    assert store.open_count("a") == 2


def test_waiting_audio_is_bounded_and_places_are_told(store: JobStore) -> None:
    jobs = [queued(store, estimated_s=100.0) for _ in range(3)]
    assert [store.queue_position(job) for job in jobs] == [
        QueuePosition(1, 0.0),
        QueuePosition(2, 100.0),
        QueuePosition(3, 200.0),
    ]
    assert store.next_position() == QueuePosition(4, 300.0)
    with pytest.raises(QueueFull):
        store.create(Job(id="job_4", storage_key="4"), max_backlog_s=300)
    started(store, jobs[0])
    assert store.queue_position(jobs[0]) is None
    assert store.queue_position(jobs[2]) == QueuePosition(2, 100.0)
    store.create(Job(id="job_4", storage_key="4"), max_backlog_s=300)


def test_scores_are_found_again_by_tenant_bytes_and_model(store: JobStore) -> None:
    run = started(store, queued(store, tenant="a", audio={"sha256": "5f"}))
    store.succeed(run, result={"scores": {}}, model={"version": "v1"})
    found = store.cached_result(tenant="a", sha256="5f", model_version="v1")
    assert found
    assert found.id == run.id
    for other in ({"tenant": "b"}, {"sha256": "6f"}, {"model_version": "v2"}):
        assert store.cached_result(**({"tenant": "a", "sha256": "5f", "model_version": "v1"} | other)) is None


def test_a_job_can_be_created_finished(store: JobStore) -> None:
    job = queued(store, status=JobState.SUCCEEDED, cached=True, result={"scores": {}}, finished_at=1.0)
    assert store.get(job.id) == job
    assert store.unfinished_ids() == []
    assert store.start(job.id, max_attempts=3, lease_s=60) is None
    assert 0 < store.redis.ttl(f"apex:job:{job.id}") <= 60


def test_events_tell_what_happened_in_order(store: JobStore) -> None:
    run = started(store, queued(store))
    store.report(run, progress={"segments_done": 1})
    store.report(run, progress={"segments_done": 2})
    store.succeed(run, result={})
    events = store.events(run.id)
    assert [event.name for event in events] == ["job.progress", "job.progress", "job.succeeded"]
    assert [event.data for event in events] == [{"segments_done": 1}, {"segments_done": 2}, {}]
    assert store.events(run.id, after=events[0].id) == events[1:]


def test_each_change_wakes_who_listens(store: JobStore, redis: Redis) -> None:
    run = started(store, queued(store))
    with redis.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(updates_channel(run.id))
        store.report(run, progress={})
        store.fail(run, error={"code": "audio_silent"})
        told = [message for _ in range(20) if (message := listener.get_message(timeout=0.1))]
    assert [message["data"] for message in told] == [b"job.progress", b"job.failed"]


def test_a_new_record_tells_its_place_in_the_queue(store: JobStore) -> None:
    jobs = [Job(id=f"job_{number}", storage_key="x", estimated_s=10.5) for number in range(3)]
    told = [store.create(job) for job in jobs]
    assert (
        told == store.queue_positions(jobs) == [QueuePosition(1, 0.0), QueuePosition(2, 10.5), QueuePosition(3, 21.0)]
    )
    assert store.create(Job(id="job_3", storage_key="x", status=JobState.FAILED)) is None
