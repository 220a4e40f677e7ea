"""Java's default HTTP client, which offers an upgrade to HTTP/2 with every request, uploads a track."""

import json
import subprocess
import sys
from pathlib import Path

from app.core.json_types import Json
from tests.clients.npm import PROGRAMS
from tests.e2e.service import Service


def test_javas_own_client_scores_a_track(service: Service, track: Path, scores: Json) -> None:
    upload = [sys.executable, str(PROGRAMS / "java_upload.py"), f"{service.url}/score", str(track)]
    printed = subprocess.run(upload, capture_output=True, check=True)
    job = service.finished(json.loads(printed.stdout)["id"])
    assert job["result"]["scores"] == scores
