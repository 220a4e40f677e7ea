"""A Python client, generated from the served document, uploads a track and reads its result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.npm import HERE
from tests.e2e.service import Json, Service


def generate(document: str, directory: Path) -> None:
    """Make the package `apex_client`; a warning is a failure, as it means that something was left out."""
    generator = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--url", document]
    options = ["--config", str(HERE / "python-client.yaml"), "--meta", "none", "--fail-on-warning"]
    done = subprocess.run(
        [*generator, *options, "--output-path", str(directory / "apex_client")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("document", ["openapi.json", "openapi-3.0.json"])
def test_a_generated_python_client_scores_a_track(
    service: Service, track: Path, scores: Json, tmp_path: Path, document: str
) -> None:
    url = str(service.client.base_url)
    generate(f"{url}/{document}", tmp_path)
    upload = [sys.executable, str(HERE / "upload.py"), url, str(track)]
    printed = subprocess.run(upload, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True)
    job = json.loads(printed.stdout)
    assert (job["status"], job["external_id"]) == ("succeeded", "from-python")
    assert job["result"]["scores"] == scores
