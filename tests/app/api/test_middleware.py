"""The outermost layer: ids, log lines, unexpected errors, and connections that are not kept."""

import json
import logging
import threading
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.store import JobStore
from app.core.logging import JsonFormatter
from tests.app.api.asgi import RAW, SECRET, WAV, Client, body_messages

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="httpx")  # the test's own client logs its URLs
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(JsonFormatter())
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.text.splitlines()]


def requests(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [line for line in lines(log) if line["logger"] == "app.requests" and line["message"] == "request"]


@pytest.mark.parametrize("given", ["01J9ZK3W7Q", "a/b:c~!", "x" * 128])
async def test_a_sane_request_id_is_kept(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/nope", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "ü"])
async def test_any_other_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/nope", headers={b"X-Request-Id": given.encode()})
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_traced_request_stays_in_its_trace(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture, machine: JobStateMachine
) -> None:
    traced = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
    answer = await client.post("/score", content=WAV, headers=RAW | traced)
    version, trace_id, span_id, flags = answer.headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE_ID, "01")
    assert span_id != "00f067aa0ba902b7"
    assert requests(log)[0]["trace_id"] == TRACE_ID
    job = machine.store.get(answer.json()["id"])
    assert job
    assert job.trace_id == TRACE_ID


@pytest.mark.parametrize(
    "given", ["", "00", f"00-{TRACE_ID}-{'0' * 16}-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"99-{TRACE_ID}"]
)
async def test_a_trace_that_cannot_be_read_is_ignored(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/livez", headers={"traceparent": given})
    assert answer.status_code == 200
    assert "traceparent" not in answer.headers


async def test_the_line_of_a_request_tells_its_job_or_batch(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    made = await client.post("/score", content=WAV, headers=RAW | {"Idempotency-Key": "once"})
    await client.post("/score", content=WAV, headers=RAW | {"Idempotency-Key": "once"})
    await client.get(f"/jobs/{made.json()['id']}")
    batch = await client.post("/batches", files=[("files", ("a.wav", WAV))])
    assert [line.get("job_id") for line in requests(log)] == [made.json()["id"]] * 3 + [None]
    assert requests(log)[-1]["batch_id"] == batch.json()["id"]


async def test_each_line_of_a_service_without_keys_names_its_tenant(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        await client.get("/jobs")
    assert [line["tenant"] for line in requests(log)] == ["open"] * 3


async def test_each_request_is_one_line_with_its_id(client: httpx.AsyncClient, log: pytest.LogCaptureFixture) -> None:
    await client.get(f"/jobs/job_1?token={SECRET}", headers={"X-Request-Id": "r-1"})
    (line,) = requests(log)
    assert (line["request_id"], line["method"], line["status"]) == ("r-1", "GET", 422)
    assert line["route"] == "/jobs/{id}"
    assert line["duration_ms"] >= 0


async def test_what_a_client_chooses_is_not_logged(client: httpx.AsyncClient, log: pytest.LogCaptureFixture) -> None:
    await client.get(f"/hidden?q={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
    await client.post(
        "/score", files={"hidden": (SECRET, WAV)}, data={"external_id": SECRET}, headers={"X-API-Key": SECRET}
    )
    assert len(requests(log)) == 2
    assert SECRET not in log.text
    assert "hidden" not in log.text


async def test_an_unexpected_error_is_logged_and_not_shown(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def fail(_machine: JobStateMachine, _job_id: str) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(JobStore, "get", fail)
    answer = await client.get("/jobs/job_1", headers={"X-Request-Id": "r-1"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    (line,) = [line for line in lines(log) if "exception" in line]
    assert line["request_id"] == "r-1"
    assert "RuntimeError" in line["exception"]


async def test_a_request_that_is_refused_a_thread_may_come_again(app: FastAPI, log: pytest.LogCaptureFixture) -> None:
    before = threading.stack_size(1 << 46)  # more than the system gives to any thread
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            answer = await client.get("/jobs/job_1")
    finally:
        threading.stack_size(before)
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"]
    assert not any("exception" in line for line in lines(log))


async def test_a_response_that_breaks_off_is_cut_not_mended(app: FastAPI) -> None:
    async def broken() -> Any:
        yield b"half"
        raise RuntimeError

    app.add_api_route("/broken", lambda: StreamingResponse(broken()))
    with pytest.raises(Exception, match="internal_error"):
        await httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost").get("/broken")


async def test_a_client_that_left_is_logged_as_such(app: FastAPI, log: pytest.LogCaptureFixture) -> None:
    await Client(app, body_messages([WAV], end=False)).post("/score", RAW)
    (line,) = requests(log)
    assert (line["status"], line["received_bytes"]) == (499, len(WAV))
    assert not any("exception" in line for line in lines(log))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/score/", 404, "not_found"),
        ("GET", "http://localhost//score", 404, "not_found"),
        ("GET", "/static/../app/main.py", 404, "not_found"),
        ("GET", "/static/none.js", 404, "not_found"),
        ("POST", "/static/favicon.svg", 405, "method_not_allowed"),
        ("GET", "/score", 405, "method_not_allowed"),
        ("PUT", "/jobs/job_1", 405, "method_not_allowed"),
        ("BREW", "/livez", 405, "method_not_allowed"),
    ],
)
async def test_the_frameworks_own_refusals_are_problems(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path, follow_redirects=False)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_wrong_method_is_answered_with_the_allowed_ones(client: httpx.AsyncClient) -> None:
    assert (await client.get("/score")).headers["allow"] == "OPTIONS, POST"


async def test_a_long_path_is_not_repeated_whole(client: httpx.AsyncClient) -> None:
    assert len((await client.get("/" + "ü" * 4000)).json()["instance"]) == 256


async def test_a_connection_is_kept_when_the_body_was_read(client: httpx.AsyncClient) -> None:
    answer = await client.post("/score", content=b"no audio", headers=RAW)
    assert answer.status_code == 415
    assert "connection" not in answer.headers
