"""What stands beside the scores of a track: of its segments and between them, its embedding, its percentiles."""

import base64
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from model.audio.pcm import Samples, normalise
from model.domain import SCORE_RANGES, SEGMENT_SAMPLES
from model.inference.analysis import TrackAnalysis, mean_embedding, spread_of
from model.inference.scorer import Scorer
from model.weights.directory import convert, read_manifest
from model.weights.reference import N_QUANTILES, REFERENCE_FILE
from tests.model.weights.references import add_reference


@dataclass(frozen=True)
class Analysed:
    scorer: Scorer
    segments: list[Samples]
    analysis: TrackAnalysis


@pytest.fixture(scope="module")
def analysed(tiny_weights: Path) -> Analysed:
    rng = np.random.default_rng(5)
    segments = [rng.standard_normal(SEGMENT_SAMPLES, np.float32) * np.float32(1 + i) for i in range(3)]
    segments[2][:600_000] = 0  # most of it silent: unlike the others
    scorer = Scorer.load(tiny_weights, engine="torch", device="cpu")
    return Analysed(scorer, segments, scorer.analyse(segments))


def test_the_scores_are_to_the_digit_those_without_the_rest(analysed: Analysed) -> None:
    assert analysed.analysis.scores == analysed.scorer.score(analysed.segments)


def test_a_segment_has_the_scores_of_a_track_that_is_this_segment(analysed: Analysed) -> None:
    by_score = analysed.analysis.segment_scores
    for index in (0, 2):
        alone = analysed.scorer.score([analysed.segments[index]])
        assert {name: values[index] for name, values in by_score.items()} == pytest.approx(alone, abs=2e-4)


def test_the_mean_of_the_segments_is_not_the_score(analysed: Analysed) -> None:
    scores, by_score = analysed.analysis.scores, analysed.analysis.segment_scores
    assert any(abs(np.mean(by_score[name]) - scores[name]) > 1e-3 for name in scores)


def test_an_analysis_encodes_each_segment_once_and_is_repeated_to_the_digit(
    analysed: Analysed, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Mock(wraps=analysed.scorer._engine)
    monkeypatch.setattr(analysed.scorer, "_engine", engine)
    again = analysed.scorer.analyse(analysed.segments)
    assert sum(len(call.args[0]) for call in engine.embed.call_args_list) == 3
    assert (again.scores, again.spread) == (analysed.analysis.scores, analysed.analysis.spread)


def test_the_embedding_is_what_the_head_takes(analysed: Analysed, tiny_weights: Path) -> None:
    embedding = analysed.analysis.embedding
    kept = json.loads(json.dumps(embedding.to_json()))
    values = np.frombuffer(base64.b64decode(kept["float32"]), "<f4")
    assert analysed.scorer.score_embedding(values) == analysed.analysis.scores
    states = analysed.scorer._engine.embed([normalise(segment) for segment in analysed.segments])
    mix = kept["provenance"]["layer_mix"]
    by_hand = np.einsum("k,nkd->d", mix["weights"], states.astype(np.float64)) / 3 + mix["bias"]
    assert values == pytest.approx(by_hand, abs=1e-5)
    assert kept["provenance"]["hidden_states"] == [2, 5, 8, 12]
    assert kept["n_segments"] == 3


def linear_head(embeddings: Samples) -> dict[str, Samples]:
    return {"clarity": embeddings[:, 0]}


def test_the_spread_is_that_of_the_mean_of_segments_drawn_anew() -> None:
    """For a head that passes its input on: 9 of 10 means of two coins lie between both heads and both tails."""
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((30, 4)).astype(np.float32)
    low, high = (spread_of(embeddings, linear_head) or {})["clarity"]
    mean, error = embeddings[:, 0].mean(), embeddings[:, 0].std() / 30**0.5
    assert low < mean < high
    assert (high - low) == pytest.approx(2 * 1.645 * error, rel=0.2)


def test_a_track_that_is_the_same_all_the_way_has_no_spread() -> None:
    low, high = (spread_of(np.full((5, 3), 2.5, np.float32), linear_head) or {})["clarity"]
    assert low == high == 2.5


def test_the_spread_depends_on_nothing_but_the_track() -> None:
    embeddings = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32)
    spreads = []
    for seed in (1, 2):
        np.random.seed(seed)
        spreads.append(spread_of(embeddings, linear_head))
    assert spreads[0] == spreads[1]
    moved = spread_of(embeddings + np.float32(1e-6), linear_head) or {}
    assert moved["clarity"] == pytest.approx((spreads[0] or {})["clarity"], abs=2e-4)


def test_one_segment_has_no_spread() -> None:
    assert spread_of(np.ones((1, 3), np.float32), linear_head) is None


def test_percentiles_come_with_a_reference_distribution_alone(analysed: Analysed, tmp_path: Path) -> None:
    assert analysed.analysis.percentiles is None
    assert analysed.scorer.card.reference is None


def test_percentiles_say_where_a_track_lies_in_the_reference(
    analysed: Analysed, tiny_weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_weights, tmp_path / "weights")
    scores = analysed.analysis.scores
    # A quarter of the tracks at the lowest value, the others at the highest: each score is between them.
    steps = {name: [low] * 26 + [high] * (N_QUANTILES - 26) for name, (low, high) in SCORE_RANGES.items()}
    add_reference(tmp_path / "weights", quantiles=steps)
    scorer = Scorer.load(tmp_path / "weights", engine="torch", device="cpu")
    assert scorer.card.reference == {"name": "A catalogue", "date": "2026-11-27", "n_tracks": 12000}
    found = scorer._reference.percentiles(scores) if scorer._reference else {}
    assert set(found) == set(scores)
    assert all(25 < percentile < 26 for percentile in found.values())


def test_a_reference_follows_its_head_into_another_layout_and_no_further(tiny_weights: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_weights, tmp_path / "with")
    add_reference(tmp_path / "with")
    convert(tmp_path / "with", tmp_path / "converted")
    assert Scorer.load(tmp_path / "converted", engine="torch", device="cpu").card.reference
    head = tiny_weights / "apex" / "apex.safetensors"
    convert(tmp_path / "with", tmp_path / "other", head_path=head)
    assert f"apex/{REFERENCE_FILE}" not in read_manifest(tmp_path / "other").files


def test_the_mean_embedding_is_rounded_once() -> None:
    embeddings = np.array([[1e8], [1.0], [-1e8]], np.float32)
    assert mean_embedding(embeddings)[0] == np.float32(1 / 3)
