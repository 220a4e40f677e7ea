"""Measures are SciPy's, and an undefined one is None."""

import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from model.training.metrics import MEASURES, Pairs, interval


@pytest.fixture
def truth() -> np.ndarray:
    return np.round(np.random.default_rng(0).uniform(0, 100, 80), -1)  # with ties


@pytest.fixture
def predicted(truth: np.ndarray) -> np.ndarray:
    return np.round(truth + np.random.default_rng(1).normal(0, 30, 80), -1)


def test_measures_are_those_of_numpy_and_scipy(truth: np.ndarray, predicted: np.ndarray) -> None:
    measured = Pairs(truth, predicted).measure()
    assert measured["mse"] == pytest.approx(np.mean((truth - predicted) ** 2))
    assert measured["mae"] == pytest.approx(np.mean(abs(truth - predicted)))
    assert measured["pearson"] == pytest.approx(pearsonr(truth, predicted).statistic)
    assert measured["spearman"] == pytest.approx(spearmanr(truth, predicted).statistic)


def test_a_resample_counted_is_the_resample_itself(truth: np.ndarray, predicted: np.ndarray) -> None:
    rows = np.random.default_rng(2).integers(80, size=80)
    counted = Pairs(truth, predicted).measure(np.bincount(rows, minlength=80))
    copied = Pairs(truth[rows], predicted[rows]).measure()
    assert counted == pytest.approx(copied)


def test_intervals_hold_the_value_and_shrink_with_the_number_of_songs(truth: np.ndarray, predicted: np.ndarray) -> None:
    few = Pairs(truth, predicted).measure_with_intervals(200)
    many = Pairs(np.tile(truth, 16), np.tile(predicted, 16)).measure_with_intervals(200)
    for name in MEASURES:
        low, high = few[f"{name}_ci95"]
        assert low < few[name] < high
        assert np.diff(many[f"{name}_ci95"]) < 0.5 * (high - low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        truth = rng.standard_normal(100)
        low, high = Pairs(truth, truth + rng.standard_normal(100)).measure_with_intervals(100)["mse_ci95"]
        hits += low < 1 < high
    assert 50 <= hits <= 60


def test_two_songs_have_no_correlation() -> None:
    measured = Pairs(np.array([1.0, 2.0]), np.array([3.0, 5.0])).measure_with_intervals(20)
    assert measured["pearson"] is None
    assert measured["spearman_ci95"] == [None, None]
    assert measured["mse"] == 6.5


def test_a_correlation_without_spread_is_none_and_json_stays_json(truth: np.ndarray) -> None:
    measured = Pairs(truth, np.full(80, 51.3)).measure_with_intervals(20)
    assert measured["pearson"] is None
    assert measured["spearman_ci95"] == [None, None]
    assert measured["mse"] > 0
    json.dumps(measured, allow_nan=False)
    assert interval([None, 1.0, None]) == [1.0, 1.0]
