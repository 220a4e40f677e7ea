"""Segments of different lengths share batches where that costs less."""

import numpy as np
import pytest

from model.domain import SAMPLE_RATE_HZ, SEGMENT_SAMPLES
from model.inference.engines.batching import LENGTHS, PASS_COST, batches, cost_of, length_for, stacked

SIZES = (16, 8, 4, 2, 1)


def cut(*durations_s: float, sizes: tuple[int, ...] = SIZES) -> list[list[float]]:
    """The batches, each segment as its seconds."""
    n_samples = {number: int(duration_s * SAMPLE_RATE_HZ) for number, duration_s in enumerate(durations_s)}
    return [[durations_s[number] for number in batch] for batch in batches(n_samples, sizes)]


def test_a_length_is_never_shorter_than_the_sound_and_one_of_few() -> None:
    for n_samples in range(1, SEGMENT_SAMPLES + 1, 777):
        assert length_for(n_samples) >= n_samples
    assert length_for(1) == LENGTHS[0]
    assert length_for(SEGMENT_SAMPLES) == LENGTHS[-1] == SEGMENT_SAMPLES
    assert len(LENGTHS) <= 8


def test_a_longer_segment_costs_more_and_a_full_one_costs_one() -> None:
    costs = [cost_of(length) for length in LENGTHS]
    assert costs == sorted(costs)
    assert costs[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("durations_s", "expected"),
    [
        ((30, 30, 30), [[30, 30], [30]]),
        ((30, 0.03, 30, 0.03), [[30, 30], [0.03, 0.03]]),  # previews that are a little too long
        ((9, 30, 14, 30), [[30, 30], [14, 9]]),
        ((30, 30, 30, 28), [[30, 30, 30, 28]]),  # a full batch is worth a little padding
        ((12, 0.1), [[12], [0.1]]),
        ((30,) * 7 + (1,), [[30] * 4, [30] * 2, [30], [1]]),
    ],
)
def test_what_is_of_a_length_shares_a_batch(durations_s: tuple[float, ...], expected: list[list[float]]) -> None:
    assert cut(*durations_s) == expected


def test_alone_where_batches_hold_one() -> None:
    assert cut(1, 30, 2, sizes=(1,)) == [[30], [2], [1]]


def test_no_cut_of_a_few_segments_costs_less() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        n_samples = sorted(rng.integers(1, SEGMENT_SAMPLES, 6).tolist(), reverse=True)
        found = batches(dict(enumerate(n_samples)), (4, 2, 1))
        cost = sum(PASS_COST + len(batch) * cost_of(length_for(n_samples[batch[0]])) for batch in found)
        assert cost <= min(map(cost_of_cut, all_cuts(n_samples))) + 1e-9


def all_cuts(n_samples: list[int]) -> list[list[list[int]]]:
    if not n_samples:
        return [[]]
    return [
        [n_samples[:size], *rest] for size in (4, 2, 1) if size <= len(n_samples) for rest in all_cuts(n_samples[size:])
    ]


def cost_of_cut(cut_in: list[list[int]]) -> float:
    return sum(PASS_COST + len(batch) * cost_of(length_for(max(batch))) for batch in cut_in)


def test_a_batch_is_as_long_as_its_longest_segment_needs() -> None:
    short, long = np.ones(100, np.float32), np.full(30_000, 2, np.float32)
    batch = stacked([short, long])
    assert batch.shape == (2, length_for(30_000))
    assert (batch[0].sum(), batch[1].sum()) == (100, 60_000)
