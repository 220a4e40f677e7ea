"""The network at its published size: 94 million parameters, made once for the tests of this file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.inference.scorer import Scorer
from model.weights.directory import verify, write_stand_in
from tests.model import reference
from tests.model.conftest import make_track
from tests.model.inference.signals import FIDELITY, segments_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RATE_HZ = 44_100


@pytest.fixture(scope="module")
def full_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("weights") / "full"
    write_stand_in(directory, size="full")
    return directory


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_a_stand_in_can_be_written_and_verified(full_weights: Path) -> None:
    verify(full_weights, deep=True)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(  # the last segment is mostly padding: the hardest for float32
    "duration_s", [6.0, pytest.param(1.0, marks=pytest.mark.long), pytest.param(36.0, marks=pytest.mark.long)]
)
def test_scores_in_float32_are_those_of_exact_arithmetic(full_weights: Path, tmp_path: Path, duration_s: float) -> None:
    track = make_track(duration_s, RATE_HZ, channels=2)
    expected = reference.scores(track, RATE_HZ, full_weights, torch.float64)
    for engine in ("torch", "openvino"):
        scorer = Scorer.load(full_weights, engine=engine, device="cpu", cache_dir=tmp_path / "cache")
        assert scorer.score(segments_of(track, RATE_HZ)) == pytest.approx(expected, abs=FIDELITY), engine
