"""`clients/python`: what it repeats and what not, what it raises; and as a package, against a running service."""

import asyncio
import csv
import inspect
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from apex_client import (
    ApexClient,
    ApiError,
    AsyncApexClient,
    ConnectionFailed,
    JobFailed,
    JobFilters,
    TrackOptions,
    Url,
    WaitTimeout,
    WebhookVerificationError,
    verify_webhook,
)

from app.core.json_types import Json
from tests.clients.npm import PROGRAMS
from tests.clients.packages import PYTHON
from tests.clients.test_generated_clients import run
from tests.clients.webhook_samples import EVENT, FAILED, QUEUED, SECRETS, SUCCEEDED, signed
from tests.e2e.service import Service

PROGRAM = PROGRAMS / "score_with_apex_client.py"
BROKEN = httpx.ConnectError("broken")
ROUND_ANSWER = httpx.Response(200, json=SUCCEEDED)

Outcome = httpx.Response | httpx.TransportError | Callable[[], httpx.Response]
#: A client's method, called on either client.
Use = Callable[[Any], Any]


def problem(status: int, code: str, *, retryable: bool, **headers: str) -> httpx.Response:
    body = {"code": code, "detail": "Because.", "retryable": retryable}
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


class Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in parts, the last of which may be missing."""

    def __init__(self, parts: Iterable[bytes], *, is_cut: bool) -> None:
        self.parts, self.is_cut = list(parts), is_cut

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        if self.is_cut:
            raise httpx.ReadError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


def stream(*parts: str, is_cut: bool = False) -> Callable[[], httpx.Response]:
    """An answer whose body comes in these parts, and may be cut after them."""
    return lambda: httpx.Response(200, stream=Parts(map(str.encode, parts), is_cut=is_cut))


class Server:
    """Gives its answers one after the other, and notes what it is sent and how long clients pause."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses_s: list[float] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, httpx.Response):
            return answer()
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def serve(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self.answer(request)

    async def serve_async(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return self.answer(request)

    async def pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)


@pytest.fixture(params=["synchronous", "asynchronous"])
def use(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a client of this kind on a server."""

    def synchronous(server: Server, call: Use, **options: Any) -> Any:
        monkeypatch.setattr("apex_client.synchronous.time.sleep", server.pauses_s.append)
        with httpx.Client(transport=httpx.MockTransport(server.serve)) as http:
            return call(ApexClient("http://apex/base/", api_key="msk_test_x", http=http, **options))

    def asynchronous(server: Server, call: Use, **options: Any) -> Any:
        monkeypatch.setattr("apex_client.asynchronous.asyncio.sleep", server.pause)

        async def main() -> Any:
            async with httpx.AsyncClient(transport=httpx.MockTransport(server.serve_async)) as http:
                return await call(AsyncApexClient("http://apex/base", api_key="msk_test_x", http=http, **options))

        return asyncio.run(main())

    return {"synchronous": synchronous, "asynchronous": asynchronous}[request.param]


@pytest.mark.parametrize("kind", ["path", "bytes", "file"])
def test_a_track_is_sent_whole_and_under_one_key_however_often(use: Any, tmp_path: Path, kind: str) -> None:
    (tmp_path / "track").write_bytes(b"head the track")
    file = io.BytesIO(b"head the track")
    file.seek(5)
    tracks: dict[str, Any] = {"path": tmp_path / "track", "bytes": b"the track", "file": file}
    track = tracks[kind]
    server = Server(BROKEN, problem(503, "queue_full", retryable=True, retry_after="7"), ROUND_ANSWER)
    job = use(server, lambda apex: apex.score(track, segments=True, metadata={"album": "x"}, webhook_events=["a", "b"]))
    assert job == SUCCEEDED
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    for request in server.requests:
        assert str(request.url) == "http://apex/base/score"
        assert request.headers["authorization"] == "Bearer msk_test_x"
        for sent in (b"the track", b'{"album": "x"}', b"true", b"a,b"):
            assert sent in request.content
    assert 0.25 <= server.pauses_s[0] <= 0.5
    assert server.pauses_s[1] == 7


def test_a_url_is_sent_as_json(use: Any) -> None:
    server = Server(ROUND_ANSWER)
    wanted: TrackOptions = {
        "segments": True,
        "metadata": {"album": "x"},
        "webhook_events": ["job.failed", "job.canceled"],
    }
    use(server, lambda apex: apex.score_and_wait(Url("https://host.example/a.mp3"), **wanted))
    [request] = server.requests
    assert (request.url.path, json.loads(request.content)) == (
        "/base/score/url",
        {**wanted, "webhook_events": "job.failed,job.canceled", "url": "https://host.example/a.mp3"},
    )
    assert request.headers["idempotency-key"]


def test_a_refusal_is_told_at_once_with_its_problem(use: Any) -> None:
    server = Server(problem(422, "validation_error", retryable=False, x_request_id="r1"))
    with pytest.raises(ApiError, match="422 validation_error: Because.") as raised:
        use(server, lambda apex: apex.score(b"track"))
    error = raised.value
    assert (error.code, error.status, error.request_id, len(server.requests)) == ("validation_error", 422, "r1", 1)


@pytest.mark.parametrize(
    ("answer", "error"), [(BROKEN, ConnectionFailed), (httpx.Response(502, text="<html>"), ApiError)]
)
def test_it_gives_up_after_so_many_retries(use: Any, answer: Outcome, error: type[Exception]) -> None:
    server = Server(*[answer] * 3)
    with pytest.raises(error):
        use(server, lambda apex: apex.job("job_1"), max_retries=2)
    assert len(server.requests) == 3


def test_scores_are_waited_for(use: Any) -> None:
    waiting = httpx.Response(202, json=QUEUED, headers={"Retry-After": "4"})
    server = Server(waiting, waiting, ROUND_ANSWER)
    job = use(server, lambda apex: apex.score_and_wait(b"track", idempotency_key="mine", cancel_after="10m"))
    assert job == SUCCEEDED
    sent, *polls = server.requests
    assert [sent.headers[name] for name in ("prefer", "idempotency-key", "cancel-after")] == ["wait=20", "mine", "10m"]
    assert [str(poll.url) for poll in polls] == [f"http://apex/base/jobs/{QUEUED['id']}?wait=20"] * 2
    assert server.pauses_s == [4]  # the service did not wait


def test_a_job_without_scores_is_an_error_that_has_the_job(use: Any) -> None:
    with pytest.raises(JobFailed, match="audio_undecodable") as raised:
        use(Server(httpx.Response(200, json=FAILED)), lambda apex: apex.wait(FAILED["id"]))
    assert raised.value.job == FAILED


def test_waiting_ends_in_time_and_leaves_the_job(use: Any) -> None:
    with pytest.raises(WaitTimeout) as raised:
        use(Server(httpx.Response(200, json=QUEUED)), lambda apex: apex.wait(QUEUED["id"], timeout_s=0))
    assert raised.value.job["id"] == QUEUED["id"]


def test_a_list_is_followed_to_its_end(use: Any) -> None:
    pages = [{"items": [QUEUED, FAILED], "next_cursor": "c"}, {"items": [SUCCEEDED], "next_cursor": None}]
    server = Server(*(httpx.Response(200, json=page) for page in pages))
    filters: JobFilters = {"status": "failed", "metadata": {"album": "x"}}

    def collect(apex: ApexClient | AsyncApexClient) -> Any:
        async def listed() -> list[Any]:
            assert isinstance(apex, AsyncApexClient)
            return [job async for job in apex.jobs(**filters)]

        return list(apex.jobs(**filters)) if isinstance(apex, ApexClient) else listed()

    assert use(server, collect) == [QUEUED, FAILED, SUCCEEDED]
    first, second = (dict(request.url.params) for request in server.requests)
    assert first == {"status": "failed", "metadata": "album:x", "limit": "100"}
    assert second == first | {"cursor": "c"}


async def _listed(found: AsyncIterator[Any], most: int | None) -> list[Any]:
    listed: list[Any] = []
    async for each in found:
        listed.append(each)
        if len(listed) == most:
            break
    return listed


def collected(found: Any, most: int | None = None) -> Any:
    """What is to come, from either client; at most so many."""
    return _listed(found, most) if isinstance(found, AsyncIterator) else list(islice(found, most))


def event(name: str, data: Json, id: str) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\nid: {id}\n\n"


def test_events_are_followed_over_a_connection_that_breaks(use: Any) -> None:
    first, second = event("job.snapshot", QUEUED, "1-0"), event("job.progress", {"stage": "decoding"}, "2-0")
    server = Server(
        stream(first[:20], first[20:], second[:-1], is_cut=True),
        BROKEN,
        problem(503, "shutting_down", retryable=True, retry_after="2"),
        stream(": keep-alive\n\n", second, is_cut=True),
        stream(event("job.succeeded", SUCCEEDED, "3-0"), "event: never\ndata: 1\n\n"),
    )
    events = use(server, lambda apex: collected(apex.events("job_1")))
    assert [(each.name, each.id) for each in events] == [
        ("job.snapshot", "1-0"),
        ("job.progress", "2-0"),
        ("job.succeeded", "3-0"),
    ]
    assert (events[0].data, events[-1].data) == (QUEUED, SUCCEEDED)
    last = [request.headers.get("last-event-id") for request in server.requests]
    assert last == [None, "1-0", "1-0", "1-0", "2-0"]
    assert {request.url.path for request in server.requests} == {"/base/jobs/job_1/events"}
    assert 2 in server.pauses_s


def test_events_that_were_all_heard_are_none(use: Any) -> None:
    server = Server(httpx.Response(204))
    assert use(server, lambda apex: collected(apex.batch_events("bat_1", last_event_id="completed-2"))) == []
    assert server.requests[0].headers["last-event-id"] == "completed-2"


def test_events_that_never_come_are_given_up(use: Any) -> None:
    server = Server(*[stream(is_cut=True)] * 3)
    with pytest.raises(ConnectionFailed, match="cut"):
        use(server, lambda apex: collected(apex.events("job_1")), max_retries=2)
    assert server.answers == []


def test_a_caller_may_leave_events_before_their_end(use: Any) -> None:
    endless = (event("job.progress", {"stage": "decoding"}, f"{n}-0") for n in range(100))
    events = use(Server(stream(*endless)), lambda apex: collected(apex.events("job_1"), 2))
    assert [each.id for each in events] == ["0-0", "1-0"]


def test_results_are_read_line_by_line_whatever_is_in_them(use: Any) -> None:
    jobs = [SUCCEEDED | {"external_id": "a\u2028b\x85c"}, FAILED]
    text = "".join(json.dumps(job, ensure_ascii=False) + "\n" for job in jobs)
    server = Server(stream(text[:9], text[9:-3], text[-3:]), stream('{"index": 0}\n'))
    assert use(server, lambda apex: collected(apex.results(status="failed", metadata={"album": "x"}))) == jobs
    assert use(server, lambda apex: collected(apex.batch_results("bat_1"))) == [{"index": 0}]
    first, second = server.requests
    assert (first.url.path, dict(first.url.params)) == ("/base/results", {"status": "failed", "metadata": "album:x"})
    assert (first.headers["accept"], second.url.path) == ("application/jsonl", "/base/batches/bat_1/results")


def test_a_table_comes_as_lines_for_a_reader(use: Any) -> None:
    table = 'id,external_id\r\njob_1,"two\r\nlines"\r\n'
    server = Server(stream(table[:20], table[20:]), stream(table))
    assert "".join(use(server, lambda apex: collected(apex.results_csv()))) == table
    rows = csv.reader(use(server, lambda apex: collected(apex.batch_results_csv("bat_1"))))
    assert list(rows)[1] == ["job_1", "two\r\nlines"]
    assert {request.headers["accept"] for request in server.requests} == {"text/csv"}


def test_results_that_are_cut_off_do_not_look_complete(use: Any) -> None:
    with pytest.raises(ConnectionFailed, match="cut off"):
        use(Server(stream('{"index": 0}\n', is_cut=True)), lambda apex: collected(apex.batch_results("bat_1")))


def test_a_refused_stream_is_told_with_its_problem(use: Any) -> None:
    server = Server(problem(404, "not_found", retryable=False))
    with pytest.raises(ApiError, match="404 not_found"):
        use(server, lambda apex: collected(apex.events("job_1")))


@pytest.mark.parametrize("of_batch", [False, True])
def test_deliveries_are_read_and_begun_again(use: Any, of_batch: bool) -> None:
    path = "/base/batches/bat_1/deliveries" if of_batch else "/base/jobs/job_1/deliveries"
    delivery = {"id": "evt_1"}
    server = Server(httpx.Response(200, json={"items": [delivery]}), httpx.Response(202, json=delivery))

    def read(apex: Any) -> Any:
        return apex.batch_deliveries("bat_1") if of_batch else apex.deliveries("job_1")

    def again(apex: Any) -> Any:
        return apex.redeliver_batch("bat_1", "evt_1") if of_batch else apex.redeliver("job_1", "evt_1")

    assert (use(server, read), use(server, again)) == ([delivery], delivery)
    assert [request.url.path for request in server.requests] == [path, f"{path}/evt_1/redeliver"]


def test_both_clients_can_do_the_same() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        found = inspect.getmembers(client, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in found if not name.startswith("_")}

    blocking, awaited = methods(ApexClient), methods(AsyncApexClient)
    assert blocking.pop("close") == awaited.pop("aclose")
    assert blocking == awaited


def test_a_webhook_is_verified_with_either_secret_while_one_is_replaced() -> None:
    for secret in SECRETS:
        assert verify_webhook(EVENT.encode(), signed(secret), *SECRETS)["data"] == SUCCEEDED


@pytest.mark.parametrize("job_id", ["", "..", "job_x/../../usage", "job_x?wait=1"])
def test_an_id_leads_to_no_other_path(use: Any, job_id: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        use(Server(), lambda apex: apex.job(job_id))


@pytest.mark.parametrize(
    ("body", "headers", "secrets"),
    [
        (EVENT + " ", signed(SECRETS[0]), SECRETS),
        (EVENT, signed(SECRETS[0]), SECRETS[1:]),
        (EVENT, signed(SECRETS[0]), []),
        (EVENT, signed(SECRETS[0], age_s=3600), SECRETS),
        (EVENT, {}, SECRETS),
        (EVENT, signed(SECRETS[0]) | {"webhook-signature": "garbage"}, SECRETS),
        (EVENT, signed(SECRETS[0]) | {"webhook-signature": "v1,\u00e9"}, SECRETS),
        (b"\xff", signed(SECRETS[0]), SECRETS),
    ],
)
def test_what_is_not_signed_is_refused(body: str | bytes, headers: dict[str, str], secrets: Iterable[str]) -> None:
    with pytest.raises(WebhookVerificationError):
        verify_webhook(body, headers, *secrets)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is built, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("apex-client")
    source = shutil.copytree(PYTHON, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    [wheel] = folder.glob("apex_client-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    assert (folder / "site" / "apex_client" / "py.typed").exists()
    return folder / "site"


def test_the_package_scores_a_track(service: Service, track: Path, scores: Json, installed: Path) -> None:
    program = [sys.executable, str(PROGRAM), service.url.rstrip("/"), str(track)]
    done = subprocess.run(program, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    job = json.loads(done.stdout)
    assert (job["status"], job["external_id"], job["metadata"]) == ("succeeded", "python", {"album": "x"})
    assert job["result"]["scores"] == scores
    assert job["named"] == [scores["score_streams"], 0, 100]
    assert (job["counts"]["succeeded"], type(job["first"])) == (1, float)
