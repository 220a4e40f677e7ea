"""SIGTERM under load, to every process at once and twice: quiet, and nothing is lost."""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import pytest

from tests.chaos.campaign import Plan, environment
from tests.chaos.scripted import Script
from tests.chaos.service import Running, running
from tests.chaos.test_outages import accepted, once
from tests.e2e.service import children, command

#: Three times what a run may take to hand its job back.
EXIT_S = 90.0


class SlowUpload:
    """A track of which half has been sent."""

    def __init__(self, url: str, script: Script) -> None:
        track = script.track()
        self.socket = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=30)
        head = "POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
        head += f"Content-Length: {len(track)}\r\n\r\n"
        self.socket.sendall(head.encode() + track[:70])
        self.rest = track[70:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def finish(self) -> str:
        """Send the other half; the answer."""
        self.socket.sendall(self.rest)
        return self.socket.recv(65536).decode()


def stop_all_twice(service: Running) -> None:
    """What a terminal or an init system does to a whole group, and an impatient user does again."""
    for _ in range(2):
        for pid in (service.pid, *children(service.pid)):
            with suppress(ProcessLookupError):  # a process that was only just being started may be gone again
                if "redis" not in command(pid):
                    os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_service_told_to_stop_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    settings = environment(Plan(seed=0, n_jobs=0, n_faults=0), tmp_path)
    data_dir = tmp_path / "data"
    with running(data_dir, environment=settings, real=False, log=log) as service:
        long_id = accepted(service, Script("long", run_s=90.0, n_segments=900))
        once(service, long_id, "running")
        ids = [accepted(service, Script(f"short {n}", run_s=0.5)) for n in range(20)]
        n_lines = len(log.read_text().splitlines())
        with SlowUpload(service.url, Script("slow")) as upload:
            stop_all_twice(service)
            assert upload.finish().startswith(("HTTP/1.1 202 ", "HTTP/1.1 503 "))
        assert service.process.wait(EXIT_S) == 0
    lines = [line for line in log.read_text().splitlines()[n_lines:] if "job succeeded" not in line]
    assert len(lines) < 25, lines
    with running(data_dir, environment=settings, real=False, log=log) as service:
        # A run that the second signal ended early was begun again.
        assert [once(service, job_id, "succeeded")["attempt"] for job_id in ids].count(1) >= len(ids) - 2
        assert once(service, long_id, "running")["attempt"] == 2
        httpx.post(f"{service.url}/jobs/{long_id}/cancel").raise_for_status()
        once(service, long_id, "canceled")
