"""What must stay secret is nowhere: one service, its clients and its enemies, and then every trace of them searched."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.app.api.live import eventually
from tests.e2e.service import Service, running
from tests.model import tracks
from tests.ports import free_port

#: Each is looked for in every log line, answer and stored byte.
KEY = "c4nary-key-7f3a"
CANARIES = {
    "key": KEY,
    "wrong key": "c4nary-wrong-91be",
    "file name": "c4nary-file-55d0",
    "query": "c4nary-query-08aa",
    "header": "c4nary-header-e2e2",
    "cookie": "c4nary-cookie-3c3c",
    "basic password": "c4nary-basic-9d9d",
    "tag": "c4nary-tag-4b4b",
    "path": "c4nary-path-7a7a",
    "field": "c4nary-field-2d2d",
}
#: A problem names the path and the field that are wrong, to who sent them.
ECHOED = {"path", "field"}
#: What a client asked to be kept is kept, and shown to that client; but it is not logged.
KEPT = {"metadata": "c4nary-metadata-6e6e", "external id": "c4nary-external-1f1f"}


def good() -> bytes:
    return tracks.with_tags(tracks.track_file("mp3", tracks.music(2.0)), {"title": CANARIES["tag"]})


def broken() -> bytes:
    return good()[:-5_000]


def requests(client: httpx.Client) -> list[httpx.Response]:
    """Whatever may carry a secret, sent well and badly."""
    name, headers = CANARIES["file name"] + ".mp3", {"X-Request-Id": "r-1", "Cookie": f"sid={CANARIES['cookie']}"}
    kept = {"metadata": json.dumps({"artist": KEPT["metadata"]}), "external_id": KEPT["external id"]}
    return [
        client.post("/score", files={"file": (name, good())}, data=kept, headers=headers),
        client.post("/score", files={"file": (name, broken())}, headers={"X-Other": CANARIES["header"]}),
        client.post("/score", files={"file": (name, b"no audio" * 99)}),
        client.post("/score", files={CANARIES["field"]: (name, good())}),
        client.post(
            "/score", params={"token": CANARIES["query"]}, content=good(), headers={"Content-Type": "audio/mpeg"}
        ),
        client.get("/jobs", params={"cursor": CANARIES["query"], "api_key": CANARIES["key"]}),
        client.get("/jobs/" + CANARIES["path"]),
        client.get("/" + CANARIES["path"] + "?" + CANARIES["query"]),
        client.get("/jobs", headers={"Authorization": f"Bearer {CANARIES['wrong key']}"}),
        client.get("/jobs", headers={"X-API-Key": CANARIES["wrong key"], "Authorization": ""}),
        client.get("/jobs", auth=("user", CANARIES["basic password"])),
        client.get("/jobs", headers={"Idempotency-Key": CANARIES["header"], "X-Request-Id": "bad id " + KEY}),
    ]


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"alice {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    return path


def test_a_secret_is_in_no_log_no_answer_and_no_stored_byte(
    tiny_weights: Path, tmp_path: Path, keys_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data_dir = tmp_path / "data"
    with running(tiny_weights, data_dir, key=KEY, api_keys_file=str(keys_file), log_level="DEBUG") as service:
        answers = requests(service.client)
        jobs = [finished(service, answer) for answer in answers if answer.status_code == 202]
    log = capfd.readouterr().err
    assert {job["status"] for job in jobs} == {"succeeded", "failed"}, [answer.text for answer in answers]
    assert found_in("".join(answer.text + str(answer.headers) for answer in answers) + json.dumps(jobs)) <= ECHOED
    assert found_in(log) == set()
    assert not any(value in log for value in KEPT.values())
    assert found_in(stored(data_dir)) == set()
    check_lines(log, {str(job["id"]) for job in jobs})


def finished(service: Service, accepted: httpx.Response) -> dict[str, object]:
    return service.finished(accepted.json()["id"])


def found_in(text: str) -> set[str]:
    return {name for name, value in CANARIES.items() if value in text}


def stored(data_dir: Path) -> str:
    """Every name and every byte in the data folder: Redis's append-only file holds whatever was ever written to it."""
    paths = [path for path in data_dir.rglob("*") if path.is_file()]
    assert any("appendonly" in path.name for path in paths)
    return "".join(f"{path}\n" + path.read_bytes().decode("latin-1") for path in paths)


def check_lines(log: str, job_ids: set[str]) -> None:
    """Each line is an object; requests and runs can be told apart and put together."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    requests_, runs = select(lines, "app.requests", "request"), select(lines, "worker.score_track", "job ")
    assert [line for line in log.splitlines() if line and not line.startswith("{")] == banner(log)
    assert all(line["request_id"] for line in requests_)
    assert {line["job_id"] for line in runs} == job_ids
    assert {line["attempt"] for line in runs} == {1}
    assert {line["request_id"] for line in runs} <= {line["request_id"] for line in requests_}
    assert select(lines, "worker.process", "sandbox layers")[0]["applied"]


def select(lines: list[dict[str, object]], logger: str, message: str) -> list[dict[str, object]]:
    return [line for line in lines if line["logger"] == logger and str(line["message"]).startswith(message)]


def banner(log: str) -> list[str]:
    """What `apex up` says to its user."""
    return [line for line in log.splitlines() if line.startswith("APEX at ")]


PASSWORD = "c4nary-password"


@contextmanager
def without_redis(tmp_path: Path, log: Path, *command: str) -> Iterator[None]:
    """A process of the service whose Redis, named with a password, does not answer; what it logs goes to a file."""
    redis_url = f"redis://service:{PASSWORD}@127.0.0.1:9/0"
    env = os.environ | {"APEX_REDIS_URL": redis_url, "APEX_DATA_DIR": str(tmp_path), "APEX_LOG_LEVEL": "DEBUG"}
    apex = [sys.executable, "-m", "app.cli", *command]
    with log.open("w") as file, subprocess.Popen(apex, env=env, stderr=file) as process:
        try:
            yield
        finally:
            process.terminate()


def test_the_password_in_an_address_is_in_no_log_of_the_front_end(tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port("127.0.0.1")
    with without_redis(tmp_path, log, "api", "--port", str(port)):
        eventually(lambda: "startup complete" in log.read_text(), timeout_s=30)
        answers = [httpx.get(f"http://127.0.0.1:{port}{path}") for path in ("/readyz", "/jobs/job_1", "/capacity")]
        assert {answer.status_code for answer in answers} == {503}
    assert "Nothing listens at Redis's address" in log.read_text()
    assert PASSWORD not in log.read_text() + "".join(answer.text for answer in answers)


def test_the_password_in_an_address_is_in_no_log_of_a_worker(tmp_path: Path, tiny_weights: Path) -> None:
    log = tmp_path / "log"
    with without_redis(tmp_path, log, "worker", "--weights", str(tiny_weights)):
        eventually(lambda: "ConnectionError" in log.read_text(), timeout_s=30)
    assert PASSWORD not in log.read_text()
