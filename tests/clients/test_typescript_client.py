"""A TypeScript client, generated from the served document, type-checks, uploads a track and reads its result."""

import json
import shutil
from pathlib import Path

import pytest

from tests.clients.npm import HERE, MODULES, node, tool
from tests.e2e.service import Json, Service


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a program that wants the client `apex`."""
    for name in ("upload.ts", "tsconfig.json"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    return tmp_path


def test_a_generated_typescript_client_scores_a_track(
    service: Service, track: Path, scores: Json, project: Path
) -> None:
    url = str(service.client.base_url)
    tool("openapi-ts", "--input", f"{url}/openapi.json", "--output", "apex", "--no-log-file", cwd=project)
    tool("tsc", "--project", ".", "--outDir", "built", cwd=project)
    job = json.loads(node("built/upload.js", url, str(track), cwd=project))
    assert (job["status"], job["external_id"]) == ("succeeded", "from-typescript")
    assert job["result"]["scores"] == scores
