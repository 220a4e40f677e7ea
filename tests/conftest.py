"""Fixtures that every test may use: a real Redis, empty at the start of each test; tiny weights; a running service.

What brings torch is imported where it is used: most tests can do without, and start sooner.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis
from xdist.scheduler import LoadFileScheduling

from app.cli.serving.embedded_redis import EmbeddedRedis
from app.cli.serving.embedded_s3 import embedded_s3
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from app.core.json_types import Json
from app.core.redis.keys import RedisKeys
from app.core.settings import DEFAULT_NAMESPACE
from app.core.storage.folder import MARKER
from tests.e2e.service import Service, running
from tests.installed import installed

#: Files whose tests use the fixture `service`, which takes seconds of processor time to start.
SHARE_THE_SERVICE = ("tests/clients/", "tests/e2e/", "tests/browser/test_docs.py")

#: The names under which every test looks.
KEYS = RedisKeys(DEFAULT_NAMESPACE)


def state_machine(redis: Redis, *, result_ttl_s: int = 60) -> JobStateMachine:
    """The jobs of a Redis, queued where every test looks for them."""
    return JobStateMachine(redis, KEYS, queue=ScoreQueue(redis, name="scores"), result_ttl_s=result_ttl_s)


def audio_files(directory: Path) -> list[Path]:
    """What uploads have left in a storage: all but its marker."""
    return [path for path in directory.iterdir() if path.name != MARKER]


def pytest_configure() -> None:
    """Judge no generated example by its time: the machine may be busy."""
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run load and contract tests at full size (many minutes)")


class OneProcessEach(LoadFileScheduling):  # type: ignore[misc]
    """Gives each file to one process, and all that share a service to the same."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    return "service" if nodeid.startswith(SHARE_THE_SERVICE) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneProcessEach:
    return OneProcessEach(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests. Skip what needs a CUDA device where there is none."""
    slow = {scope(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: scope(item.nodeid) not in slow)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            installed(program)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether tests that have a small and a full size shall run at the full one."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where compiled encoders are kept, in all processes of a run: not where the user's are.

    Compiling takes seconds, so the processes between which the tests are split share what they compiled.
    """
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
        yield directory / "cache"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment in which the bucket `apex` of a real S3 server is used."""
    with embedded_s3(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def machine(redis: Redis) -> JobStateMachine:
    return state_machine(redis)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights directory whose network has the published depth and a 32nd of its width. Not to be changed."""
    from model.weights.directory import write_stand_in

    directory = tmp_path_factory.mktemp("weights") / "tiny"
    write_stand_in(directory, size="tiny")
    return directory


@pytest.fixture(scope="session")
def service(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`apex up` with tiny weights and no API keys, shared by all tests of a run."""
    with running(tiny_weights, tmp_path_factory.mktemp("data")) as running_service:
        yield running_service


@pytest.fixture(scope="session")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short track."""
    from tests.model import tracks

    path = tmp_path_factory.mktemp("track") / "track.wav"
    path.write_bytes(tracks.wav(tracks.ramp(2 * 8_000), 8_000))
    return path


@pytest.fixture(scope="session")
def scores(service: Service, track: Path) -> Json:
    """Its scores, asked for without any client."""
    scores: Json = service.score(track.read_bytes())["result"]["scores"]
    return scores
