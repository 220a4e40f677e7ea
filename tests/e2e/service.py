"""The whole service as its user meets it: `apex up` in a process of its own, spoken to over HTTP."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.core.json_types import Json
from tests.ports import free_port

READY_S = 60.0
JOB_S = 90.0


@dataclass
class Service:
    """A running service; `pid` is its supervisor's."""

    client: httpx.Client
    pid: int
    data_dir: Path

    @property
    def url(self) -> str:
        return str(self.client.base_url)

    def submit(self, audio: bytes, name: str = "track.wav") -> httpx.Response:
        return self.client.post("/score", files={"file": (name, audio)})

    def job(self, job_id: str) -> Json:
        job: Json = self.client.get(f"/jobs/{job_id}").raise_for_status().json()
        return job

    def finished(self, job_id: str) -> Json:
        """The job once it is over."""
        deadline = time.monotonic() + JOB_S
        while not (job := self.job(job_id))["done"]:
            assert time.monotonic() < deadline, job
            time.sleep(0.1)
        return job

    def score(self, audio: bytes, name: str = "track.wav") -> Json:
        accepted = self.submit(audio, name)
        # 200: another test had the same track scored by the shared service.
        assert accepted.status_code in (200, 202), accepted.text
        return self.finished(accepted.json()["id"])

    def worker_pids(self) -> list[int]:
        """The scoring processes, found among the supervisor's children."""
        return [pid for pid in children(self.pid) if "worker.process" in command(pid)]

    def api_pid(self) -> int:
        """The HTTP front end's process."""
        [pid] = [pid for pid in children(self.pid) if "app.cli api" in command(pid)]
        return pid


@contextmanager
def running(weights_dir: Path, data_dir: Path, *, key: str | None = None, **settings: str) -> Iterator[Service]:
    """`apex up` until the block ends; its exit status must be 0. Its client sends the key."""
    port = free_port("127.0.0.1")
    up = [sys.executable, "-m", "app.cli", "up", "--port", str(port), "--data-dir", str(data_dir)]
    environment = {f"APEX_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen([*up, "--weights", str(weights_dir), "--device", "cpu"], env=os.environ | environment)
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
            wait_until_ready(client, process)
            yield Service(client, process.pid, data_dir)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/model").json()["loaded"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the service did not become ready")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()]


def command(pid: int) -> str:
    """A process's command line; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):  # ended before the file was opened, or before it was read
        return ""


def environment(**values: str) -> dict[str, str]:
    return os.environ | values
