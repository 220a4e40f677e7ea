"""The network at its published size: 94 million parameters, made once for the tests of this file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from model.inference.scorer import Scorer
from model.weights.directory import verify, write_stand_in
from tests.model import reference
from tests.model.conftest import make_track
from tests.model.inference.signals import FIDELITY, segments_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RATE_HZ = 44_100
#: Holds embeddings that `reference` computed, which takes half a minute, under a digest of what they depend on.
KNOWN = Path(__file__).with_name("published_size")


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


def known_embedding(track: reference.Array, weights: Path) -> Path:
    """Not there for other weights, which another processor may draw, or after a change of `reference`."""
    digest = hashlib.sha256(Path(reference.__file__).read_bytes() + track.tobytes())
    with (weights / "mert/model.safetensors").open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return KNOWN / f"{digest.hexdigest()[:16]}.npy"


def exact_embedding(track: reference.Array, weights: Path) -> torch.Tensor:
    return reference.mean_embedding(track, RATE_HZ, weights, torch.float64)


def test_a_stand_in_can_be_written_and_verified(full_weights: Path) -> None:
    verify(full_weights, deep=True)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(  # the last segment is mostly padding: the hardest for float32
    "duration_s", [6.0, pytest.param(1.0, marks=pytest.mark.long), pytest.param(36.0, marks=pytest.mark.long)]
)
def test_scores_in_float32_are_those_of_exact_arithmetic(full_weights: Path, tmp_path: Path, duration_s: float) -> None:
    track = make_track(duration_s, RATE_HZ, channels=2)
    path = known_embedding(track, full_weights)
    embedding = torch.from_numpy(np.load(path)) if path.exists() else exact_embedding(track, full_weights)
    expected = reference.apply_head(reference.load_head(full_weights), embedding)
    for engine in ("torch", "openvino"):
        scorer = Scorer.load(full_weights, engine=engine, device="cpu", cache_dir=tmp_path / "cache")
        assert scorer.score(segments_of(track, RATE_HZ)) == pytest.approx(expected, abs=FIDELITY), engine


@pytest.mark.long
@pytest.mark.usefixtures("two_threads")
def test_the_known_embedding_is_that_of_exact_arithmetic(full_weights: Path) -> None:
    """Writes it where there is none yet."""
    track = make_track(6.0, RATE_HZ, channels=2)
    path, embedding = known_embedding(track, full_weights), exact_embedding(track, full_weights).numpy()
    if not path.exists():
        np.save(path, embedding)
    np.testing.assert_allclose(np.load(path), embedding, rtol=1e-6)
