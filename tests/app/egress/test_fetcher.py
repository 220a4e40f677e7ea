"""The fetcher brings each track into storage as an upload would, or ends its job with the reason."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from app.api.auth.rate_limits import Quotas
from app.api.jobs.views import job_view
from app.api.uploads.receiver import UploadLimits
from app.core.callers import Caller, Limits
from app.core.deployment import Deployment
from app.core.egress_rules import LOOPBACK, EgressRules
from app.core.jobs.backlog import BacklogLimits
from app.core.jobs.models import Job, JobState, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.storage.folder import FolderStorage
from app.egress import setbacks
from app.egress.client import Resolve, guarded_client
from app.egress.download import Downloader, UnexpectedStatus
from app.egress.fetcher import FETCH_TIMES, Fetcher, FetchLimits, FetchTimes
from tests.app.egress.sources import SECRET, WAV, Source, source
from tests.app.records import MODEL, RESULT, found, running
from tests.conftest import KEYS, audio_files

RULES = EgressRules(("127.0.0.1", "localhost", "away.example"), networks=LOOPBACK)
LIMITS = UploadLimits(max_bytes=len(WAV), idle_timeout_s=30, timeout_s=60)
TIMES = FetchTimes(pauses_s=(0.0,) * 5)
FETCH_LIMITS = FetchLimits(8, BacklogLimits(10_000), 900, TIMES)


@pytest.fixture
def tracks_source() -> Iterator[Source]:
    with source() as server:
        yield server


@pytest.fixture
def storage(data_dir: Path) -> FolderStorage:
    return FolderStorage(data_dir / "audio")


def wanted(machine: JobStateMachine, url: str, **values: object) -> Job:
    job_id = new_job_id()
    given = {"tenant": "acme", "source": {"url": url}, **values}
    return machine.create(Job(id=job_id, storage_key=job_id, **given))[0]  # type: ignore[arg-type]


def fetch(
    machine: JobStateMachine,
    storage: FolderStorage,
    *,
    limits: UploadLimits = LIMITS,
    fetch_limits: FetchLimits = FETCH_LIMITS,
    until: Callable[[], Awaitable[bool]] | None = None,
    resolve: Resolve | None = None,
) -> None:
    """Run a fetcher until no track is left to fetch, or `until` says so."""

    async def run() -> None:
        stop = asyncio.Event()
        async with guarded_client(RULES, timeout_s=limits.idle_timeout_s, resolve=resolve) as client:
            fetcher = Fetcher(
                machine,
                Downloader(client, RULES, storage, limits),
                Deployment(machine.redis, KEYS, storage),
                Quotas(machine.redis, KEYS),
                lambda: MODEL,
                fetch_limits,
            )
            fetching = asyncio.create_task(fetcher.run(stop))
            while not await (until() if until else _nothing_left(machine)):
                await asyncio.sleep(0.01)
            stop.set()
            await fetching

    asyncio.run(run())


def stored(storage: FolderStorage, job: Job) -> bytes:
    with storage.open(job.storage_key) as file:
        return file.read()


async def _nothing_left(machine: JobStateMachine) -> bool:
    return not await asyncio.to_thread(machine.redis.zcard, KEYS.unfetched)


def test_a_track_is_stored_and_queued_as_an_upload_is(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source
) -> None:
    job = wanted(machine, tracks_source.url("track"))
    fetch(machine, storage)
    after = found(machine, job)
    assert stored(storage, after) == WAV
    assert (after.audio["bytes"], after.audio["container"]) == (len(WAV), "wav")
    assert after.estimated_s > 0
    assert machine.queue.rq.job_ids == [job.id]
    assert machine.redis.exists(KEYS.fetcher), "for /readyz"
    sent = tracks_source.headers[0]
    assert (sent["Accept-Encoding"], sent["User-Agent"]) == ("identity", "apex-scoring")


@pytest.mark.parametrize(
    ("path", "code", "n_calls"),
    [
        ("gone", "url_status", 1),
        ("forbidden", "url_status", 1),
        ("redirect", "url_status", 1),
        ("partial", "url_status", 1),
        ("down", "url_status", TIMES.max_fetches),
        ("cut", "url_unreachable", TIMES.max_fetches),
        ("nonsense", "url_unreachable", TIMES.max_fetches),
        ("huge", "url_too_large", 1),
        ("endless", "url_too_large", 1),
        ("text", "unsupported_media_type", 1),
        ("empty", "unsupported_media_type", 1),
        ("gzip", "unsupported_media_type", 1),
    ],
)
def test_a_track_that_cannot_be_had_ends_its_job(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source, path: str, code: str, n_calls: int
) -> None:
    job = wanted(machine, tracks_source.url(path))
    fetch(machine, storage)
    after = found(machine, job)
    assert after.error
    assert (after.status, after.error["code"], after.error["attempts"]) == (JobState.FAILED, code, n_calls)
    assert job_view(after, result_ttl_s=60).progress.stage == "fetching"
    assert tracks_source.calls == {path: n_calls}
    assert audio_files(storage.directory) == []
    assert machine.queue.rq.job_ids == []


@pytest.mark.parametrize("path", ["silent", "stall"])
def test_a_host_that_stops_sending_is_left(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source, path: str
) -> None:
    job = wanted(machine, tracks_source.url(path))
    fetch(machine, storage, limits=replace(LIMITS, idle_timeout_s=0.05))
    error = found(machine, job).error or {}
    assert (error["code"], error["attempts"]) == ("url_unreachable", TIMES.max_fetches)


def test_a_track_that_takes_too_long_is_left(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source
) -> None:
    job = wanted(machine, tracks_source.url("stall"))
    fetch(machine, storage, limits=replace(LIMITS, timeout_s=0.05))
    assert (found(machine, job).error or {})["detail"] == "It took longer than an upload may take."


@pytest.mark.parametrize("path", ["second", "flaky"])
def test_a_fault_that_passes_is_tried_again(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source, path: str
) -> None:
    job = wanted(machine, tracks_source.url(path))
    fetch(machine, storage)
    assert tracks_source.calls[path] == 2
    assert stored(storage, found(machine, job)) == WAV
    assert len(audio_files(storage.directory)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.2/",
        "http://10.0.0.1/",
        "https://other.example/",
        "https://user@127.0.0.1/",
        "https://away.example:22/",
    ],
)
def test_a_url_that_is_not_allowed_any_more_is_not_called(
    machine: JobStateMachine, storage: FolderStorage, url: str
) -> None:
    job = wanted(machine, url)
    fetch(machine, storage)
    assert (found(machine, job).error or {})["code"] == "url_forbidden"


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a00:1"])
def test_a_name_of_a_forbidden_address_is_not_called(
    machine: JobStateMachine, storage: FolderStorage, address: str
) -> None:
    async def resolve(host: str) -> list[str]:
        return [address]

    job = wanted(machine, "https://away.example/track")
    fetch(machine, storage, resolve=resolve)
    error = found(machine, job).error or {}
    assert (error["code"], error["attempts"]) == ("url_forbidden", 1)


def test_bytes_that_were_scored_before_are_answered_with_their_scores(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source
) -> None:
    first = wanted(machine, tracks_source.url("track-1"))
    fetch(machine, storage)
    machine.redis.delete(machine.queue.rq.key)
    run = machine.start(first.id, max_attempts=3, lease_s=60)
    assert run
    machine.succeed(run, result=RESULT, model=MODEL, audio=run.audio | {"duration_s": 2.0})
    again, other = (wanted(machine, tracks_source.url("track-2"), tenant=name) for name in ("acme", "other"))
    fetch(machine, storage)
    known = found(machine, again)
    assert (known.status, known.cached, known.result) == (JobState.SUCCEEDED, True, RESULT)
    assert found(machine, other).status is JobState.QUEUED
    assert machine.queue.rq.job_ids == [other.id]


def test_a_host_that_stalls_keeps_no_other_host_of_its_tenant_back(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source
) -> None:
    for _ in range(20):
        wanted(machine, tracks_source.url("stall"))
    with source() as quick:
        jobs = [wanted(machine, quick.url(f"track-{number}")) for number in range(5)]

        async def all_are_queued() -> bool:
            return await asyncio.to_thread(machine.redis.zcard, KEYS.waiting) == len(jobs)

        fetch(machine, storage, until=all_are_queued)
    assert {job.id for job in jobs} == set(machine.queue.rq.job_ids)


def test_what_a_job_was_canceled_for_is_not_fetched_to_its_end(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source
) -> None:
    job = wanted(machine, tracks_source.url("stall"))

    async def canceled_and_dropped() -> bool:
        if tracks_source.calls["stall"] and found(machine, job).status is JobState.QUEUED:
            machine.cancel(job)
        await asyncio.sleep(0.1)
        return found(machine, job).status is JobState.CANCELED and not audio_files(storage.directory)

    fetch(
        machine,
        storage,
        fetch_limits=replace(FETCH_LIMITS, times=replace(TIMES, lease_s=0.3)),
        until=canceled_and_dropped,
    )
    assert found(machine, job).status is JobState.CANCELED


def test_a_fetcher_that_stops_hands_its_jobs_back_uncounted(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source
) -> None:
    job = wanted(machine, tracks_source.url("stall"))

    async def begun() -> bool:
        return tracks_source.calls["stall"] > 0

    fetch(machine, storage, until=begun)
    after = found(machine, job)
    assert (after.status, after.fetch, after.fetch_preemptions) == (JobState.QUEUED, 1, 1)
    assert machine.next_fetch(max_fetches=8, lease_s=15, backlog=FETCH_LIMITS.backlog)


def test_a_full_disk_costs_a_job_no_fetch(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = wanted(machine, tracks_source.url("track"))
    free = iter([0, 0, 10**12])
    monkeypatch.setattr(storage, "free_bytes", lambda: next(free))
    monkeypatch.setattr(setbacks, "OWN_FAULT_PAUSE_S", 0.0)
    fetch(machine, storage)
    after = found(machine, job)
    assert (after.fetch, after.fetch_preemptions, machine.queue.rq.job_ids) == (3, 2, [job.id])


def test_the_bytes_are_charged_to_the_key_that_sent_the_url(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source
) -> None:
    limits = Limits(100, 100, 10**6)
    url = tracks_source.url("track")
    wanted(machine, url, key_id="k1", source={"url": url, "limits": asdict(limits)})
    fetch(machine, storage)
    status = Quotas(machine.redis, KEYS).consume(Caller("acme", "k1", limits=limits))
    assert status
    left = {each.policy: each.remaining for each in status.limits}
    assert left["bytes"] == pytest.approx(10**6 - len(WAV), abs=1000)


def test_urls_are_nowhere_but_where_they_are_needed(
    machine: JobStateMachine, storage: FolderStorage, tracks_source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for path in ("track", "gone", "flaky", "nonsense", "text", "endless"):
        wanted(machine, tracks_source.url(path))
    fetch(machine, storage)
    assert SECRET not in "".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("httpx")
    )
    for key in machine.redis.keys("*"):
        assert SECRET.encode() not in (machine.redis.dump(key) or b""), key


def test_pauses_grow_and_a_host_may_ask_for_longer_ones() -> None:
    pauses_s = FETCH_TIMES.pauses_s

    def pause_s(n_fetches: int, error: Exception) -> float:
        return setbacks.pause_s(pauses_s, n_fetches, setbacks.setback(error))

    pauses = [pause_s(n, TimeoutError()) for n in range(1, FETCH_TIMES.max_fetches)]
    assert pauses == sorted(pauses)
    assert len(pauses) == len(pauses_s)
    assert pause_s(1, UnexpectedStatus(429, "400")) >= 400
    assert pause_s(1, UnexpectedStatus(503, "1e9")) < 10


def test_running_jobs_are_none_of_the_fetchers(machine: JobStateMachine, storage: FolderStorage) -> None:
    run = running(machine)
    fetch(machine, storage)
    assert found(machine, run).status is JobState.RUNNING
