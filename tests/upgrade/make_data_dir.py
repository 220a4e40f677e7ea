"""Make the data directory that the upgrade test starts from: run an old version, give it work, and kill it.

It is run with the Python of a checkout of the old version, in that checkout, and needs nothing else of it:

    git worktree add /tmp/old <commit of the old version>
    cd /tmp/old && make setup
    .venv/bin/python <this file> <the folder that this file is in>

It writes `data-<version>.tar.gz`, the data directory at the moment when every process was killed, and
`manifest-<version>.json`: what the old version said about each job, and what each unfinished one must come to under a
new version. The API keys in it are for the test alone: they open nothing else. The tracks are tones made here.
"""

import argparse
import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

RATE_HZ = 8_000
WAIT_S = 60.0
APEX = (sys.executable, "-m", "app.cli")
#: A header that is taken for a WAV, and nothing that can be decoded.
UNDECODABLE = b"RIFF\0\0\0\0WAVEfmt ".ljust(64) + bytes(range(256)) * 8
IDEMPOTENCY_KEY = "sent-before-the-upgrade"

Json = dict[str, Any]
Fields = dict[str, str]


@dataclass(frozen=True)
class Old:
    """The running service of the old version; its client sends an API key."""

    client: httpx.Client
    pid: int
    data_dir: Path

    def get(self, path: str) -> Json:
        body: Json = self.client.get(path).raise_for_status().json()
        return body

    def submit(self, track: bytes, fields: Fields | None = None, headers: Fields | None = None) -> str:
        """Send a track; the job's id."""
        answer = self.client.post("/score", files={"file": ("track.wav", track)}, data=fields, headers=headers)
        return str(answer.raise_for_status().json()["id"])

    def reached(self, job_id: str, *statuses: str) -> Json:
        """The job, once it has one of these states."""
        deadline = time.monotonic() + WAIT_S
        while (job := self.get(f"/jobs/{job_id}"))["status"] not in statuses:
            assert time.monotonic() < deadline, job
            time.sleep(0.002)
        return job


def tone(period: int, *, duration_s: float = 2.0) -> bytes:
    """A WAV that repeats `period` samples: the archive can hold it in a few hundred bytes. Each period is a track."""
    swing = bytes(128 + round(100 * math.sin(2 * math.pi * at / period)) for at in range(period))
    n_samples = round(duration_s * RATE_HZ)
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 1, RATE_HZ, n_samples, "NONE", "not compressed"))
        output.writeframes((swing * (n_samples // period + 1))[:n_samples])
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a data directory as an old version leaves it.")
    parser.add_argument("into", type=Path, help="Folder for the archive and its manifest.")
    into = parser.parse_args().into
    release = version("apex-scoring")
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        manifest = {"version": release, **left_behind(Path(folder) / "weights", data_dir)}
        archive(data_dir, into / f"data-{release}.tar.gz")
    (into / f"manifest-{release}.json").write_text(json.dumps(manifest, indent=1) + "\n")


def left_behind(weights_dir: Path, data_dir: Path) -> Json:
    """Run the old version until it is killed; what the test must know of it."""
    subprocess.run([*APEX, "weights", "stand-in", "--tiny", str(weights_dir)], check=True, stdout=subprocess.DEVNULL)
    with running(weights_dir, data_dir) as old:
        keys = {"key": create_key(old, "test"), "revoked_key": create_key(old, "test")}
        subprocess.run([*APEX, "keys", "revoke", keys["revoked_key"].split("_")[2], *folder_of(old)], check=True)
        old.client.headers["Authorization"] = f"Bearer {keys['key']}"
        deleted, batch_id = finish_jobs(old)
        unfinished = leave_jobs(old, batch_id)
        last_event = last_event_id(old, unfinished["running"]["id"])
        facts = {"deleted": deleted, "unfinished": unfinished, "last_event_of_running": last_event}
        return {"killed_at": time.time(), **keys, "idempotency_key": IDEMPOTENCY_KEY, **facts, **told(old, batch_id)}


def finish_jobs(old: Old) -> tuple[str, str]:
    """Jobs of every end; the ids of one that was deleted then, and of a batch whose two jobs are over."""
    said = {"external_id": "track-1", "metadata": json.dumps({"album": "Début", "empty": ""})}
    old.reached(old.submit(tone(40), said), "succeeded")
    old.reached(old.submit(tone(40)), "succeeded")  # its scores are known: they are those of the job before
    old.reached(old.submit(UNDECODABLE, {"external_id": "undecodable"}), "failed")
    deleted = old.submit(tone(44))
    old.reached(deleted, "succeeded")
    old.client.delete(f"/jobs/{deleted}").raise_for_status()
    tracks = [("files", (f"{n}.wav", track)) for n, track in enumerate((tone(48), b"no audio " * 99, UNDECODABLE))]
    batch = old.client.post("/batches", files=tracks, data={"batch_external_id": "album-1"}).raise_for_status().json()
    for item in batch["items"]:
        if item.get("job"):
            old.reached(item["job"]["id"], "succeeded", "failed")
    return deleted, str(batch["id"])


def leave_jobs(old: Old, batch_id: str) -> Json:
    """Stop the worker in the middle of a job and have others wait behind it; each by a name, with what it must become.

    The supervisor is stopped before the worker: it would give the job of a worker that stands still to another one.
    """
    running_id = old.submit(tone(50, duration_s=120.0), {"external_id": "running"})
    old.reached(running_id, "running")
    os.kill(old.pid, signal.SIGSTOP)
    [worker] = [pid for pid in children(old.pid) if "worker" in command(pid)]
    os.kill(worker, signal.SIGSTOP)
    succeeding = {
        "running": running_id,
        "queued": old.submit(tone(52), {"external_id": "queued", "metadata": json.dumps({"take": "2"})}),
        "idempotent": old.submit(tone(54), headers={"Idempotency-Key": IDEMPOTENCY_KEY}),
        "joined": old.submit(tone(56), {"batch_id": batch_id}),
    }
    overdue = old.submit(tone(58), headers={"Cancel-After": "1"})
    old.client.post(f"/jobs/{old.submit(tone(60))}/cancel").raise_for_status()
    assert old.get(f"/jobs/{running_id}")["status"] == "running"
    becomes = {name: {"id": job_id, "becomes": "succeeded"} for name, job_id in succeeding.items()}
    return {**becomes, "overdue": {"id": overdue, "becomes": "canceled"}}


def last_event_id(old: Old, job_id: str) -> str:
    """The event after which a client would go on that follows this job now."""
    with old.client.stream("GET", f"/jobs/{job_id}/events") as events:
        return next(line.removeprefix("id: ") for line in events.iter_lines() if line.startswith("id: "))


def told(old: Old, batch_id: str) -> Json:
    """All that the old version says about the jobs and the batch."""
    listed = [job["id"] for job in old.get("/jobs")["items"]]
    return {"jobs": [old.get(f"/jobs/{job_id}") for job_id in listed], "batch": old.get(f"/batches/{batch_id}")}


def create_key(old: Old, tenant: str) -> str:
    made = subprocess.run(
        [*APEX, "keys", "create", "--tenant", tenant, *folder_of(old)], check=True, capture_output=True
    )
    return made.stdout.decode().strip()


def folder_of(old: Old) -> tuple[str, str]:
    return "--data-dir", str(old.data_dir)


@contextmanager
def running(weights_dir: Path, data_dir: Path) -> Iterator[Old]:
    """The service until the block ends, when all its processes are killed at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--data-dir", str(data_dir), "--weights", str(weights_dir), "--device", "cpu"]
    environment = {"APEX_LOG_LEVEL": "WARNING", "XDG_CACHE_HOME": str(data_dir.with_name("cache"))}
    process = subprocess.Popen([*APEX, "up", *options], env=os.environ | environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until_ready(client)
            yield Old(client, process.pid, data_dir)
    finally:
        kill(process.pid)
        process.wait()
        # The socket of the private Redis, which nobody is left to delete.
        shutil.rmtree(Path((data_dir / "redis" / "url").read_text().removeprefix("unix://")).parent)


def wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if client.get("/model").json()["loaded"]:
                return
        time.sleep(0.1)
    raise AssertionError("the service did not become ready")


def kill(supervisor: int) -> None:
    """Kill every process, the supervisor last: the others are told to stop when it is gone, and would clean up."""
    os.kill(supervisor, signal.SIGSTOP)
    for pid in [*descendants(supervisor), supervisor]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    return [found for child in children(pid) for found in (child, *descendants(child))]


def children(pid: int) -> list[int]:
    # Of every thread: a worker's decoder may have been started by any of them.
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in found for child in file.read_text().split()]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def archive(data_dir: Path, path: Path) -> None:
    """Pack a data directory, without who owned it on this machine."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(path, "w:gz") as tar:
        tar.add(data_dir, "data", filter=anonymous)


if __name__ == "__main__":
    main()
