"""Object stores to test with: real servers on this machine."""

import base64
import hashlib
import hmac
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import httpx

from app.cli.serving.embedded_s3 import HOST, free_ports
from tests.clients.npm import MODULES, NODE

#: The account that every azurite has.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CONTAINER = "apex"
START_TIMEOUT_S = 60.0


@contextmanager
def azurite(directory: Path) -> Iterator[dict[str, str]]:
    """A server that speaks like Azure Blob Storage; the environment in which its container is used."""
    [port] = free_ports(1)
    program = MODULES / "azurite" / "dist" / "src" / "blob" / "main.js"
    assert program.exists(), "run `make test`, which installs the npm tools"
    options = ["--blobPort", str(port), "--location", str(directory), "--silent", "--disableTelemetry"]
    process = subprocess.Popen([NODE, program, *options, "--skipApiVersionCheck"])
    try:
        url = f"http://{HOST}:{port}/{ACCOUNT}"
        _create_container(process, url)
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
            "AZURE_STORAGE_ENDPOINT": url,
            "AZURE_ALLOW_HTTP": "true",
        }
    finally:
        process.terminate()
        process.wait(10)


def _create_container(process: "subprocess.Popen[bytes]", url: str) -> None:
    """Ask as Azure's "Shared Key" scheme has it; a client of objects makes no containers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        signed = [*(f"{name}:{value}" for name, value in headers.items())]
        resource = f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        text = "\n".join(["PUT", *[""] * 11, *signed, resource])
        digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        try:
            answer = httpx.put(f"{url}/{CONTAINER}?restype=container", headers=headers)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        assert answer.status_code == 201, answer.text
        return
    raise AssertionError("azurite did not start")
