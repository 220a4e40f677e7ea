"""A short track, and the scores that it gets without any client."""

from pathlib import Path

import pytest

from tests.e2e.service import Json, Service
from tests.model import tracks


@pytest.fixture(scope="session")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("track") / "track.wav"
    path.write_bytes(tracks.wav(tracks.ramp(2 * 8_000), 8_000))
    return path


@pytest.fixture(scope="session")
def scores(service: Service, track: Path) -> Json:
    scores: Json = service.score(track.read_bytes())["result"]["scores"]
    return scores
