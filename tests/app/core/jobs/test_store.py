"""Reading job records."""

from redis import Redis

from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import queued, running


def test_a_record_comes_back_as_it_was_written(machine: JobStateMachine) -> None:
    job = queued(machine, metadata={"album": "ü"}, audio={"bytes": 3}, request_id="r1")
    assert machine.store.get(job.id) == job


def test_an_unknown_id_has_no_record(machine: JobStateMachine) -> None:
    assert machine.store.get("job_none") is None


def test_a_record_of_a_later_version_is_still_read(machine: JobStateMachine, redis: Redis) -> None:
    job = queued(machine)
    redis.hset(f"apex:job:{job.id}", "added_later", '"x"')
    assert machine.store.get(job.id) == job


def test_a_tenants_jobs_are_listed_newest_first(machine: JobStateMachine) -> None:
    jobs = [queued(machine, tenant="a", created_at=float(at)) for at in range(1, 451)]
    queued(machine, tenant="b")
    assert [job_id for _, job_id in machine.store.list_by_created("a")] == [job.id for job in reversed(jobs)]
    assert [at for at, _ in machine.store.list_by_created("a", newest=3, oldest=2)] == [3, 2]


def test_scores_are_found_again_by_tenant_bytes_and_model(machine: JobStateMachine) -> None:
    run = running(machine, tenant="a", audio={"sha256": "5f"})
    machine.succeed(run, result={"scores": {}}, model={"version": "v1"})
    found = machine.store.cached_result(tenant="a", sha256="5f", model_version="v1")
    assert found
    assert found.id == run.id
    for other in ({"tenant": "b"}, {"sha256": "6f"}, {"model_version": "v2"}):
        assert machine.store.cached_result(**({"tenant": "a", "sha256": "5f", "model_version": "v1"} | other)) is None


def test_events_tell_what_happened_in_order(machine: JobStateMachine) -> None:
    run = running(machine)
    machine.report(run, progress={"segments_done": 1})
    machine.report(run, progress={"segments_done": 2})
    machine.succeed(run, result={})
    events = machine.store.events(run.id)
    assert [event.name for event in events] == ["job.progress", "job.progress", "job.succeeded"]
    assert [event.data for event in events] == [{"segments_done": 1}, {"segments_done": 2}, {}]
    assert machine.store.events(run.id, after=events[0].id) == events[1:]
