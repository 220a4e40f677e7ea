"""`python -m tests.chaos.service`: what `apex up` runs, with scripted processes as its workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.cli.serving.service import service
from tests.chaos import process
from tests.chaos.clients import authorization
from tests.ports import free_port

READY_S = 90.0
STOP_S = 60.0


@dataclass(frozen=True)
class Running:
    """A service in processes of its own."""

    url: str
    process: subprocess.Popen[bytes]
    data_dir: Path

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid


SCRIPTED_PROGRAM = ("-m", "tests.chaos.service")
REAL_PROGRAM = ("-m", "app.cli", "up")


@contextmanager
def running(
    data_dir: Path,
    *,
    environment: Mapping[str, str],
    real: bool = False,
    log: Path,
    program: Sequence[str] = SCRIPTED_PROGRAM,
    key: str | None = None,
) -> Iterator[Running]:
    """The service until the block ends; `real` workers decode and score. What it logs goes into a file.

    `key` is one that a service takes which asks for keys.
    """
    port = free_port("127.0.0.1")
    settings = {"APEX_DATA_DIR": str(data_dir), "APEX_PORT": str(port), **environment}
    program = REAL_PROGRAM if real else program
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, *program], env=os.environ | settings, stderr=stderr)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, process, key)
            yield Running(url, process, data_dir)
            process.send_signal(signal.SIGTERM)
            if process.wait(STOP_S) != 0:
                raise AssertionError(f"the service ended with {process.returncode}: see {log}")
        finally:
            process.kill()
            process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], key: str | None = None) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/model", headers=authorization(key)).json()["loaded"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the service did not become ready")


def main() -> None:
    with service(process_command=process.COMMAND) as (supervisor, _url):
        supervisor.run()


if __name__ == "__main__":
    main()
