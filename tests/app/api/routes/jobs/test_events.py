"""`GET /jobs/{id}/events`: what happens to a job, once and in order, also for a client that reconnects."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.jobs import notifications
from app.api.schemas.job import Job as JobBody
from app.core.jobs.models import Job
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import problem_object
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.live import Live, eventually, live
from tests.app.api.sse import ReceivedEvent, parse
from tests.app.records import RESULT, key_of, queued, report, running, succeeded
from tests.conftest import KEYS


@pytest.fixture
def server(app: FastAPI) -> Iterator[Live]:
    with live(app) as server:
        yield server


@pytest.fixture
def jobs(server: Live) -> JobStateMachine:
    return server.services.machine


@contextmanager
def follow(
    server: Live, job: Job, *, after: str | None = None, key: dict[str, str] | None = None
) -> Iterator[Iterator[ReceivedEvent]]:
    headers = ({"Last-Event-ID": after} if after else {}) | (key or {})
    with server.client() as client, client.stream("GET", f"/jobs/{job.id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
        yield parse(answer.iter_lines())


def revoke_keys(redis: Redis) -> None:
    keys = KeyStore(redis, KEYS)
    for key in keys.list_all():
        keys.revoke(key.id)


def all_of(server: Live, job: Job, *, after: str | None = None) -> list[ReceivedEvent]:
    with follow(server, job, after=after) as events:
        return list(events)


def shown(server: Live, job: Job) -> dict[str, Any]:
    with server.client() as client:
        body: dict[str, Any] = client.get(f"/jobs/{job.id}").json()
        return body


def numpat(redis: Redis) -> int:
    return int(redis.pubsub_numpat())


def test_a_run_is_streamed_from_snapshot_to_end(server: Live, jobs: JobStateMachine) -> None:
    QueueStatus(jobs.redis, KEYS).record_throughput(60.0)
    job = queued(jobs)
    with follow(server, job) as events:
        first = next(events)
        assert (first.name, first.data) == ("job.snapshot", shown(server, job))
        run = jobs.start(job.id, max_attempts=3, lease_s=60)
        assert run
        report(jobs, run, 2)
        progress = next(events)
        jobs.succeed(run, result=RESULT)
        last = next(events)
        assert next(events, None) is None
    assert progress.name == "job.progress"
    assert progress.data == {
        "stage": "embedding",
        "segments_done": 2,
        "segments_total": 7,
        "ratio": 0.286,
        "eta_s": 2.5,
    }
    assert (last.name, last.data) == ("job.succeeded", shown(server, job))
    assert JobBody.model_validate(last.data).result


@pytest.mark.parametrize("ending", ["succeeded", "failed", "canceled"])
def test_a_finished_job_is_streamed_in_two_events(server: Live, jobs: JobStateMachine, ending: str) -> None:
    run = running(jobs)
    if ending == "succeeded":
        jobs.succeed(run, result=RESULT)
    elif ending == "failed":
        jobs.fail(run, error=problem_object("audio_silent", "x"))
    else:
        jobs.requeue(run)
        jobs.cancel(run)
    events = all_of(server, run)
    assert [event.name for event in events] == ["job.snapshot", f"job.{ending}"]
    assert events[0].data == events[1].data == shown(server, run)
    assert events[1].id


def test_a_job_that_was_created_finished_is_streamed_like_another(server: Live, jobs: JobStateMachine) -> None:
    job = queued(jobs, status="succeeded", finished_at=1.0, result=RESULT, cached=True)
    snapshot, end = all_of(server, job)
    assert (snapshot.name, end.name) == ("job.snapshot", "job.succeeded")
    assert end.data["cached"] is True
    assert over_for(server, job, end.id) == 204


def over_for(server: Live, job: Job, event_id: str | None) -> int:
    with server.client() as client:
        answer = client.get(f"/jobs/{job.id}/events", headers={"Last-Event-ID": event_id or ""})
        assert answer.status_code != 204 or answer.content == b""
        return answer.status_code


def test_a_client_that_received_the_end_gets_no_content(server: Live, jobs: JobStateMachine) -> None:
    job = succeeded(jobs)
    end = all_of(server, job)[-1]
    assert over_for(server, job, end.id) == 204


def test_who_comes_back_hears_all_that_was_missed_and_nothing_twice(server: Live, jobs: JobStateMachine) -> None:
    run = running(jobs)
    report(jobs, run, 1)
    with follow(server, run) as events:
        seen = next(events)
    for done in (2, 3, 4):
        report(jobs, run, done)
    with follow(server, run, after=seen.id) as events:
        missed = [next(events) for _ in range(3)]
        report(jobs, run, 5)
        assert next(events).data["segments_done"] == 5
    assert [event.data["segments_done"] for event in missed] == [2, 3, 4]
    jobs.succeed(run, result=RESULT)
    after_end = all_of(server, run, after=missed[-1].id)
    assert [event.name for event in after_end] == ["job.progress", "job.succeeded"]


def test_who_received_a_snapshot_before_the_first_event_hears_all_that_followed(
    server: Live, jobs: JobStateMachine
) -> None:
    run = running(jobs)
    with follow(server, run) as events:
        snapshot = next(events)
    for done in (1, 2):
        report(jobs, run, done)
    with follow(server, run, after=snapshot.id) as events:
        assert [next(events).data["segments_done"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("event_id", ["1-1", "99999999999999-0", "nonsense", "$", "-", "9" * 400, "1-1\u00fc"])
def test_an_event_that_is_not_kept_is_answered_with_a_new_snapshot(
    server: Live, jobs: JobStateMachine, event_id: str
) -> None:
    run = running(jobs)
    report(jobs, run, 1)
    with server.client() as client:
        headers = [(b"Last-Event-ID", event_id.encode())]
        with client.stream("GET", f"/jobs/{run.id}/events", headers=headers) as answer:
            assert next(parse(answer.iter_lines())).name == "job.snapshot"


def test_what_was_missed_too_long_ago_is_answered_with_a_fresh_snapshot(server: Live, jobs: JobStateMachine) -> None:
    run = running(jobs)
    report(jobs, run, 0, total=2000)
    [first] = jobs.store.events(run.id)
    for done in range(1, 800):
        report(jobs, run, done, total=2000)
    assert len(jobs.store.events(run.id)) < 500
    with follow(server, run, after=first.id) as events:
        snapshot = next(events)
    assert (snapshot.name, snapshot.data["progress"]["segments_done"]) == ("job.snapshot", 799)


def test_progress_is_sent_now_and_then_and_the_end_at_once(
    server: Live, jobs: JobStateMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.jobs.events.PROGRESS_GAP_S", 600.0)
    run = running(jobs)
    with follow(server, run) as events:
        next(events)
        for done in range(150):
            report(jobs, run, done, total=150)
        jobs.succeed(run, result=RESULT)
        told = [event.name for event in events]
    assert told[-1] == "job.succeeded"
    assert len(told) <= 2


def test_a_deleted_job_ends_its_streams(server: Live, jobs: JobStateMachine) -> None:
    run = running(jobs)
    with follow(server, run) as events:
        next(events)
        jobs.purge(run)
        assert next(events, None) is None
    assert over_for(server, run, None) == 410


def test_a_record_that_becomes_unreadable_ends_its_streams_without_a_traceback(
    server: Live, jobs: JobStateMachine, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    job = running(jobs)
    with follow(server, job) as events:
        assert next(events).name == "job.snapshot"
        redis.hset(KEYS.record(job.id), "metadata", "{")
        redis.publish(KEYS.updates_channel(job.id), "job.progress")
        assert list(events) == []
    assert not [entry for entry in caplog.records if entry.exc_info]


def test_a_finished_job_that_cannot_be_shown_is_no_traceback(
    server: Live, jobs: JobStateMachine, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    job = succeeded(jobs)
    redis.hset(KEYS.record(job.id), "audio", '{"bytes": "many"}')
    assert all_of(server, job) == []
    assert not [entry for entry in caplog.records if entry.exc_info]


def test_silence_is_filled_with_comments(
    server: Live, jobs: JobStateMachine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.jobs.events.KEEP_ALIVE_S", 0.1)
    with follow(server, queued(jobs)) as events:
        next(events)
        assert [next(events).comment for _ in range(3)] == ["ping"] * 3


def test_a_client_that_leaves_frees_everything(server: Live, jobs: JobStateMachine, redis: Redis) -> None:
    run = running(jobs)
    notifications = server.services.notifications
    for _ in range(20):
        with follow(server, run) as events:
            next(events)
    eventually(lambda: notifications._count == 0)
    assert notifications._listeners == {}
    eventually(lambda: not server.server.server_state.tasks)
    eventually(lambda: not server.server.server_state.connections)
    assert numpat(redis) == 1
    report(jobs, run, 1)


def test_a_hundred_listeners_hear_the_end_over_one_subscription(
    server: Live, jobs: JobStateMachine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "SUBSCRIBE_TIMEOUT_S", 60.0)  # their threads alone keep a busy machine waiting
    run = running(jobs)
    heard: list[list[ReceivedEvent]] = []
    threads = [threading.Thread(target=lambda: heard.append(all_of(server, run))) for _ in range(100)]
    for thread in threads:
        thread.start()
    eventually(lambda: server.services.notifications._count == 100)
    assert numpat(redis) == 1
    jobs.succeed(run, result=RESULT)
    for thread in threads:
        thread.join()
    assert [events[-1].name for events in heard] == ["job.succeeded"] * 100


def test_one_listener_too_many_is_sent_away(settings: ApiSettings, redis: Redis) -> None:
    app = create_app(settings.model_copy(update={"max_listeners": 1}), redis=redis)
    with live(app) as server, server.client() as client:
        run = running(server.services.machine)
        with follow(server, run) as events:
            next(events)
            answer = client.get(f"/jobs/{run.id}/events")
            assert (answer.status_code, answer.json()["code"]) == (503, "too_many_listeners")
            assert answer.headers["retry-after"]
        eventually(lambda: server.services.notifications._count == 0)
        with follow(server, run) as events:
            next(events)


def test_a_server_that_stops_ends_its_streams(app: FastAPI, redis: Redis) -> None:
    with live(app) as server:
        run = running(server.services.machine)
        with follow(server, run) as events:
            next(events)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert next(events, None) is None
            stopping.join()
    eventually(lambda: numpat(redis) == 0)


def test_a_lost_subscription_is_made_again_and_nothing_is_missed(
    server: Live, jobs: JobStateMachine, redis: Redis
) -> None:
    run = running(jobs)
    with follow(server, run) as events:
        next(events)
        redis.client_kill_filter(_type="pubsub")
        jobs.succeed(run, result=RESULT)
        assert next(events).name == "job.succeeded"


def test_a_tenant_whose_share_is_used_up_is_told_so_and_others_are_served(settings: ApiSettings, redis: Redis) -> None:
    alice, bob = key_of(redis, "alice"), key_of(redis, "bob")
    app = create_app(settings.model_copy(update={"max_listeners_per_tenant": 1}), redis=redis)
    with live(app) as server, server.client() as client:
        machine = server.services.machine
        hers, his = running(machine, tenant="alice"), running(machine, tenant="bob")
        with client.stream("GET", f"/jobs/{hers.id}/events", headers=alice) as answer:
            assert answer.status_code == 200
            refused = client.get(f"/jobs/{hers.id}/events", headers=alice)
            assert (refused.status_code, refused.json()["violated_policies"]) == (429, ["listeners"])
            assert client.get(f"/jobs/{hers.id}?wait=30", headers=alice).json()["status"] == "running"
            with client.stream("GET", f"/jobs/{his.id}/events", headers=bob) as served:
                assert served.status_code == 200


def test_a_stream_ends_when_its_key_is_revoked(server: Live, jobs: JobStateMachine, redis: Redis) -> None:
    run, key = running(jobs, tenant="alice"), key_of(redis, "alice")
    with follow(server, run, key=key) as events:
        assert next(events).name == "job.snapshot"
        revoke_keys(redis)
        report(jobs, run, 1)
        assert next(events, None) is None
    with server.client(headers=key) as client:
        assert client.get(f"/jobs/{run.id}/events").status_code == 401


def test_a_silent_stream_ends_soon_after_its_key_is_revoked(
    server: Live, jobs: JobStateMachine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.jobs.events.KEEP_ALIVE_S", 0.1)
    run = running(jobs, tenant="alice")
    with follow(server, run, key=key_of(redis, "alice")) as events:
        revoke_keys(redis)
        assert {event.name for event in events} <= {"job.snapshot", None}


def test_a_stream_without_a_key_ends_when_the_first_key_is_created(
    server: Live, jobs: JobStateMachine, redis: Redis
) -> None:
    run = running(jobs)
    with follow(server, run) as events:
        next(events)
        key_of(redis, "alice")
        report(jobs, run, 1)
        assert next(events, None) is None
