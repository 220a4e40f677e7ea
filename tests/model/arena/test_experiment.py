"""Planted preferences are found, unplanted ones are not, and leakage is visible."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from model.arena import experiment as arena
from model.arena import report as arena_report
from model.arena.battles import clip_file, clips_in, features, read_battles
from model.domain import SCORE_RANGES
from model.training.tables import DataError, Table
from tests.model.synthetic import battles


@pytest.fixture(autouse=True)
def few_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the notebook's models, small; the test of all of them names them itself."""
    chosen = {
        "logistic regression": LogisticRegression(C=0.1, class_weight="balanced", solver="newton-cholesky"),
        "random forest": RandomForestClassifier(20, max_depth=4, class_weight="balanced", random_state=42),
    }
    monkeypatch.setattr(arena, "models", lambda: chosen)


def experiment(tmp_path: Path, table: pa.Table, n_resamples: int = 60) -> arena.Experiment:
    pq.write_table(table, tmp_path / "battles.parquet")
    return arena.run(read_battles(tmp_path / "battles.parquet"), n_resamples=n_resamples)


def auc(found: arena.Experiment, features: str, folds: str = "random") -> list[float]:
    return [j.measures["overall"]["auc"] for j in found.fitted if (j.features, j.folds) == (features, folds)]


def test_a_preference_that_only_the_aesthetics_show_is_found_with_them_alone(tmp_path: Path) -> None:
    found = experiment(tmp_path, battles(600, says="aesthetics"))
    assert min(auc(found, "with aesthetics")) > 0.75
    assert max(auc(found, "without aesthetics")) < 0.6


def test_scores_that_say_nothing_are_at_chance(tmp_path: Path) -> None:
    found = experiment(tmp_path, battles(600, says="none"))
    for judged in [*found.rules, *found.fitted]:
        low, high = judged.measures["overall"]["auc_ci95"]
        assert low < 0.56, judged.predictor
        assert high > 0.44, judged.predictor


def test_the_higher_score_is_the_rules_winner_and_not_the_lower(tmp_path: Path) -> None:
    found = experiment(tmp_path, battles(600, says="all"))
    for rule in found.rules:
        assert rule.measures["overall"]["auc"] > 0.55, "a slip of the sign would show 1 - AUC"
        assert rule.measures["overall"]["accuracy"] > 0.52


def test_measures_are_scikit_learns_and_resamples_are_counts() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(200) < 0.4, np.round(rng.standard_normal(200), 1)
    rows = rng.integers(200, size=200)
    measured = arena.measure(truth, scores, np.bincount(rows, minlength=200))
    truth, scores = truth[rows], scores[rows]
    assert measured["auc"] == pytest.approx(roc_auc_score(truth, scores))
    assert measured["f1"] == pytest.approx(f1_score(truth, scores > 0))
    assert measured["accuracy"] == pytest.approx(accuracy_score(truth, scores > 0))


def test_features_are_difference_ratio_and_instrumental_difference(tmp_path: Path) -> None:
    pq.write_table(battles(50), tmp_path / "battles.parquet")
    read = read_battles(tmp_path / "battles.parquet")
    x, (a, b) = features(read, aesthetics=True), read.scores["score_likes"]
    assert x.shape == (50, 22)
    assert x[:, 3] == pytest.approx(a - b)
    assert x[:, 4] == pytest.approx(a / (b + 1e-9))
    assert x[:, 5] == pytest.approx(np.where(read.is_instrumental, a - b, 0))
    assert features(read, aesthetics=False).shape == (50, 7)


def test_ties_and_both_bad_are_not_learnt_from_and_ties_are_rated(tmp_path: Path) -> None:
    found = experiment(tmp_path, battles(400))
    table = found.as_json()["preferences"]
    assert found.fitted[0].measures["overall"]["n"] == table["A"] + table["B"]
    votes = sum(rating.n_votes for board in found.leaderboards.values() for rating in board["human"])
    assert votes == 2 * (table["A"] + table["B"] + table["TIE"])


def test_grouped_folds_keep_pairs_and_prompts_together(tmp_path: Path) -> None:
    pq.write_table(battles(200), tmp_path / "battles.parquet")
    decided = read_battles(tmp_path / "battles.parquet").decided
    for folds, keys in (("by system pair", decided.pairs), ("by prompt", decided.prompts)):
        for learn, test in arena.splits(decided, folds):
            assert not {keys[row] for row in learn} & {keys[row] for row in test}


def test_a_preference_for_systems_alone_leaks_through_random_folds(tmp_path: Path) -> None:
    table = battles(600, says="none")
    rng = np.random.default_rng(5)
    pairs = [a + b for a, b in zip(*(table.column(f"system_{s}").to_pylist() for s in "ab"), strict=True)]
    favours_a = {pair: rng.random() < 0.5 for pair in sorted(set(pairs))}
    place = {pair: rng.uniform(1.5, 4.5) for pair in favours_a}  # the scores name the pair and nothing else
    preference = pa.array(["A" if favours_a[pair] else "B" for pair in pairs])
    table = table.set_column(table.schema.get_field_index("preference"), "preference", preference)
    for name in ("clarity_a", "coherence_a"):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array([place[pair] for pair in pairs]))
    table = table.set_column(table.schema.get_field_index("clarity_b"), "clarity_b", pa.array([3.0] * 600))
    found = experiment(tmp_path, table, n_resamples=10)
    (_, random), (_, grouped) = (auc(found, "with aesthetics", folds) for folds in ("random", "by system pair"))
    assert random > 0.7 > 0.6 > grouped, "a forest knows the pairs that it has seen, and no others"


def test_an_interrupted_experiment_does_not_fit_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    def predict(*arguments: Any) -> float:
        fitted.append(arguments)
        time.sleep(0.01)
        return 0.0

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    pq.write_table(battles(100), tmp_path / "battles.parquet")
    monkeypatch.setattr(arena, "_predict", predict)
    with pytest.raises(KeyboardInterrupt):
        arena.run(read_battles(tmp_path / "battles.parquet"), on_progress=interrupt)
    assert len(fitted) < 2 * 2 * 3 * 10 / 2, "of two models, two feature sets, three kinds of ten folds"


def test_the_predicted_leaderboard_has_the_order_of_the_human_one(tmp_path: Path) -> None:
    found = experiment(tmp_path, battles(1_500), n_resamples=10)
    human, predicted = ([r.system for r in found.leaderboards["vocal"][kind]] for kind in ("human", "predicted"))
    assert human[0] == predicted[0] == "system-4"
    assert human[-1] == predicted[-1] == "system-0"


def test_the_report_has_both_feature_sets_and_the_json_no_nan(tmp_path: Path) -> None:
    arena_report.write(experiment(tmp_path, battles(300), n_resamples=20), tmp_path / "arena")
    results = json.loads((tmp_path / "arena/results.json").read_text(), parse_constant=pytest.fail)
    assert {model["features"] for model in results["models"]} == {"with aesthetics", "without aesthetics"}
    assert {model["folds"] for model in results["models"]} == {"random", "by system pair", "by prompt"}
    page = (tmp_path / "arena/report.html").read_text()
    assert "The aesthetic features raise the AUC in" in page
    assert page.count("data:image/png") == 3


def test_scores_may_come_as_apex_score_prints_them(tmp_path: Path) -> None:
    table = battles(60)
    bare = table.drop_columns([name for name in table.column_names if name[:-2] in SCORE_RANGES])
    pq.write_table(bare, tmp_path / "battles.parquet")
    pq.write_table(table, tmp_path / "full.parquet")
    with (tmp_path / "scores.jsonl").open("w") as file:
        for row in table.to_pylist():
            for side in "ab":
                scores = {
                    name[:-2]: row[name] for name in row if name.endswith(f"_{side}") and name[:-2] in SCORE_RANGES
                }
                file.write(json.dumps({"file": f"clips/{row[f'audio_{side}']}", "scores": scores}) + "\n")
    ours = read_battles(tmp_path / "battles.parquet", tmp_path / "scores.jsonl")
    theirs = read_battles(tmp_path / "full.parquet")
    assert np.array_equal(features(ours, aesthetics=True), features(theirs, aesthetics=True))


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("preference", "C", "column 'preference', row 1: 'C' is not one of A, B, TIE, BOTH_BAD"),
        ("clarity_a", 9.0, "column 'clarity_a', row 1: 9 is not between 1 and 5"),
        ("battle_uuid", "battle-1", "column 'battle_uuid', row 2: 'battle-1' is in row 1 too"),
        ("system_a", None, "column 'system_a', row 1: is empty"),
    ],
)
def test_a_bad_battle_is_refused_with_column_and_row(tmp_path: Path, column: str, value: object, sentence: str) -> None:
    records = battles(30).to_pylist()
    records[0][column] = value
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "battles.parquet")
    with pytest.raises(DataError, match=sentence):
        read_battles(tmp_path / "battles.parquet")


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        ("../secret.wav", "'../secret.wav' is not within"),
        ("/etc/passwd", "'/etc/passwd' is not within"),
        ("deep/../../secret.wav", ".* is not within"),
        ("none.wav", "there is no file"),
    ],
)
def test_a_clip_that_is_not_a_file_of_the_folder_is_refused(tmp_path: Path, clip: str, sentence: str) -> None:
    (tmp_path / "audio").mkdir()
    for name in ("secret.wav", "audio/fine.wav"):
        (tmp_path / name).touch()
    table = Table(tmp_path / "battles.csv", {"audio_a": ["fine.wav", "fine.wav"], "audio_b": ["fine.wav", clip]})
    with pytest.raises(DataError, match=f"battles.csv: column 'audio_b', row 2: {sentence}"):
        clips_in(table, tmp_path / "audio")


def test_a_clip_is_found_by_either_unicode_form_of_its_name(tmp_path: Path) -> None:
    composed, decomposed = "Déjà.wav", "De\u0301ja\u0300.wav"
    (tmp_path / "audio").mkdir()
    for name in (composed, f"other {decomposed}"):
        (tmp_path / "audio" / name).touch()
    clips = {"audio_a": [decomposed], "audio_b": [f"other {composed}"]}
    found = clips_in(Table(tmp_path / "battles.csv", clips), tmp_path / "audio")
    assert found == [decomposed, f"other {composed}"]
    assert all(clip_file(tmp_path / "audio", clip).is_file() for clip in found)


def test_too_few_battles_and_battles_without_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are too few"):
        experiment(tmp_path, battles(20))
    table = battles(30)
    bare = [name for name in table.column_names if not name.endswith(("_a", "_b")) or name.startswith("system")]
    pq.write_table(table.select(bare), tmp_path / "bare.parquet")
    with pytest.raises(DataError, match="give --scores, or --audio to score the clips"):
        read_battles(tmp_path / "bare.parquet")
