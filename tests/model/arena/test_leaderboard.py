"""Ratings are Music Arena's: a logistic regression over battles, a tie as two halves."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model.arena.leaderboard import fit, rate


def battles(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.integers(4, size=n)
    pairs = np.stack([first, (first + rng.integers(1, 4, size=n)) % 4], axis=1)
    chance = 1 / (1 + 10 ** ((pairs[:, 1] - pairs[:, 0]) * 100 / 400))  # system i stands at 100 i
    return pairs, (rng.random(n) < chance).astype(float)


def test_ratings_are_those_of_a_regression_over_single_battles() -> None:
    pairs, won = battles(300)
    won[:40] = 0.5
    x, y, weights = [], [], []
    for (a, b), share in zip(pairs, won, strict=True):
        for outcome, weight in ((1, share), (0, 1 - share)):
            x.append(np.eye(4)[a] - np.eye(4)[b])
            y.append(outcome)
            weights.append(weight)
    model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, y, sample_weight=weights)
    expected = 400 * model.coef_[0] / np.log(10)
    assert fit(pairs, won, np.ones(300), 4) == pytest.approx(expected - expected.mean() + 1000, abs=0.05)


def test_planted_strengths_are_found_and_lie_in_their_intervals() -> None:
    pairs, won = battles(4_000)
    ratings = rate([f"s{a}" for a in pairs[:, 0]], [f"s{b}" for b in pairs[:, 1]], won, n_resamples=50)
    assert [rating.system for rating in ratings] == ["s3", "s2", "s1", "s0"]
    for rating, strength in zip(ratings, (1150, 1050, 950, 850), strict=True):
        assert rating.low < rating.rating < rating.high
        assert rating.rating == pytest.approx(strength, abs=30)


def test_systems_with_few_votes_are_left_out_and_a_winner_of_all_stays_finite() -> None:
    ratings = rate(["a"] * 40 + ["b"], ["b"] * 40 + ["c"], np.ones(41), n_resamples=5)
    assert [rating.system for rating in ratings] == ["a", "b"]
    assert all(np.isfinite([rating.low, rating.high]).all() for rating in ratings)
