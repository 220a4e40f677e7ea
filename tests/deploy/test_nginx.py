"""`deploy/nginx.conf` before the service: large uploads, early refusals, events in time, paths that lead back."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import RAW, WAV, chunked_sync
from tests.app.api.live import Live, eventually, live
from tests.app.api.sse import parse
from tests.app.records import RESULT, queued
from tests.installed import installed
from tests.ports import free_port

SAMPLE = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text()
MIB = 1024 * 1024

#: What Debian's own nginx.conf has around the sample, with all files in one folder.
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/sample.conf;
}}
"""


@pytest.fixture
def served(data_dir: Path, redis_url: str, redis: object) -> Iterator[Live]:
    with live(create_app(ApiSettings(data_dir=data_dir, redis_url=redis_url, root_path="/apex"))) as served:
        yield served


@contextmanager
def none() -> Iterator[list[str]]:
    yield []


@contextmanager
def gone() -> Iterator[list[str]]:
    """Where nobody listens."""
    yield ["127.0.0.1:1"]


@contextmanager
def cut_off() -> Iterator[list[str]]:
    """Where no connection is refused and none comes about, as with a host whose cable is cut."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield [f"127.0.0.1:{full.getsockname()[1]}"]


OTHERS = {"none": none, "gone": gone, "cut off": cut_off}


@pytest.fixture
def others(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Addresses of further front ends, of the kind that the test says."""
    with OTHERS[getattr(request, "param", "none")]() as addresses:
        yield addresses


@pytest.fixture
def client(served: Live, tmp_path: Path, others: list[str]) -> Iterator[httpx.Client]:
    """A client of nginx."""
    port = free_port("127.0.0.1")
    servers = "".join(f"server {address};" for address in [*others, httpx.URL(served.url).netloc.decode()])
    sample = SAMPLE.replace("server 127.0.0.1:8000;", servers)
    (tmp_path / "sample.conf").write_text(sample.replace("listen 80;", f"listen 127.0.0.1:{port};"))
    (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path))
    process = subprocess.Popen(nginx(tmp_path))
    try:
        eventually(lambda: is_open(port))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)


def nginx(folder: Path) -> list[str]:
    """The command that runs what is configured in a folder."""
    return [installed("nginx"), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]


def is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_the_sample_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "sample.conf").write_text(SAMPLE)
    (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path))
    subprocess.run([*nginx(tmp_path), "-t", "-q"], check=True)


def test_what_an_answer_leads_to_is_there(client: httpx.Client) -> None:
    sent = client.post("/apex/score", content=WAV, headers=RAW)
    assert sent.status_code == 202
    assert client.get(sent.headers["location"]).json()["id"] == sent.json()["id"]
    page = client.get("/apex/docs").text
    assert client.get(page.partition('src="')[2].partition('"')[0]).status_code == 200
    problem = client.get("/apex/jobs/job_1").json()
    assert client.get(problem["type"]).status_code == 200


@pytest.mark.parametrize("as_form", [True, False])
def test_a_large_upload_passes_without_being_stored_twice(
    client: httpx.Client, served: Live, tmp_path: Path, as_form: bool
) -> None:
    headers, body = chunked_sync(20 * MIB, as_form=as_form)
    sent = client.post("/apex/score", content=body, headers=headers)
    assert (sent.status_code, sent.json()["audio"]["bytes"]) == (202, 20 * MIB)
    assert [file for file in (tmp_path / "body").rglob("*") if file.is_file()] == []


def test_an_upload_over_the_limit_is_refused_by_the_service(client: httpx.Client) -> None:
    headers, body = chunked_sync(200 * MIB, as_form=False)
    declared = headers | {"Content-Length": str(200 * MIB)}
    refused = client.post("/apex/score", content=body, headers=declared)
    assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("others", ["gone", "cut off"], indirect=True)
@pytest.mark.parametrize("as_form", [True, False])
def test_a_front_end_that_is_gone_is_passed_over(client: httpx.Client, as_form: bool) -> None:
    headers, _ = chunked_sync(0, as_form=as_form)
    for _ in range(4):
        body = chunked_sync(MIB, as_form=as_form)[1]
        assert client.post("/apex/score", content=body, headers=headers).status_code == 202


def test_events_come_as_they_happen(client: httpx.Client, served: Live) -> None:
    machine = served.services.machine
    job = queued(machine)
    with client.stream("GET", f"/apex/jobs/{job.id}/events") as answer:
        events = parse(answer.iter_lines())
        assert next(events).name == "job.snapshot"
        run = machine.start(job.id, max_attempts=3, lease_s=60)
        assert run
        machine.succeed(run, result=RESULT)
        assert next(events).name == "job.succeeded"


def test_a_client_that_offers_an_upgrade_is_served(client: httpx.Client) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAA"}
    assert client.post("/apex/score", content=WAV, headers=RAW | offer).status_code == 202
