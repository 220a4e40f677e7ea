"""The file of a reference distribution: what it tells, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model.domain import SCORE_RANGES, WeightsError
from model.weights.directory import verify
from model.weights.reference import N_QUANTILES, Reference, read_reference
from tests.model.weights.references import add_reference, even_quantiles


@pytest.fixture
def weights(tiny_weights: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_weights, tmp_path / "weights")


def reference(clarity: list[float]) -> Reference:
    return Reference("A catalogue", "2026-11-27", 100, "", "", {"clarity": clarity})


@pytest.mark.parametrize(("score", "percentile"), [(1.0, 0.0), (1.02, 0.5), (3.0, 50.0), (5.0, 100.0)])
def test_a_percentile_is_the_share_of_tracks_that_score_lower(score: float, percentile: float) -> None:
    assert reference(even_quantiles()["clarity"]).percentiles({"clarity": score}) == {"clarity": percentile}


def test_a_score_outside_of_the_reference_is_at_its_end() -> None:
    within = reference([2 + i / 100 for i in range(N_QUANTILES)])
    assert within.percentiles({"clarity": 1.5}) == {"clarity": 0.0}
    assert within.percentiles({"clarity": 4.5}) == {"clarity": 100.0}


def test_a_score_that_many_tracks_share_is_in_their_middle() -> None:
    shared = reference([1.0] * 21 + [3.0] * 40 + [5.0] * 40)
    assert shared.percentiles({"clarity": 3.0}) == {"clarity": 40.5}


FAULTS: dict[str, dict[str, Any]] = {
    "format 2 is not known": {"format": 2},
    "n_tracks is not at least 1": {"n_tracks": 0},
    "n_tracks is missing or no int": {"n_tracks": True},
    "date is none": {"date": "yesterday"},
    "name has not 1 to 128 characters": {"name": ""},
    "model.head_sha256 is missing": {"model": {"encoder_sha256": "", "preprocessing": "mono-24k-30s-v1"}},
    "model.preprocessing is 'other'": {"model": {"encoder_sha256": "", "head_sha256": "", "preprocessing": "other"}},
    "quantiles are of": {"quantiles": {"clarity": even_quantiles()["clarity"]}},
    "quantiles.clarity is not 101 values": {"quantiles": even_quantiles() | {"clarity": [1.0, 5.0]}},
    "quantiles.clarity does not ascend": {"quantiles": even_quantiles() | {"clarity": [*range(101)]}},
    "quantiles.clarity has a value that is no finite number": {
        "quantiles": even_quantiles() | {"clarity": [None] * 101}
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_distribution_of_the_scores_is_refused(weights: Path, fault: str) -> None:
    path = add_reference(weights, **FAULTS[fault])
    with pytest.raises(WeightsError, match=f"reference.json: .*{fault}"):
        read_reference(path, score_names=tuple(SCORE_RANGES))


def test_a_deep_look_at_weights_reads_their_distribution(weights: Path) -> None:
    add_reference(weights)
    verify(weights, deep=True)
    add_reference(weights, n_tracks=0)
    with pytest.raises(WeightsError, match="n_tracks is not at least 1"):
        verify(weights, deep=True)


def test_a_distribution_of_another_model_is_refused(weights: Path) -> None:
    made = read_reference(add_reference(weights), score_names=tuple(SCORE_RANGES))
    hashes = {"encoder": {made.encoder_sha256}, "head": {made.head_sha256}}
    made.check_model(weights, **hashes)
    for part in hashes:
        with pytest.raises(WeightsError, match=f"made with another {part}"):
            made.check_model(weights, **hashes | {part: {"other"}})


def test_an_altered_distribution_is_found(weights: Path) -> None:
    path = add_reference(weights)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_tracks": 99999}))
    with pytest.raises(WeightsError, match="reference.json has sha256"):
        verify(weights)
