"""Comparison: the ranking follows from the scores and the weights alone."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.compare.ranking import BASIS, compare, delta, ranked_job, ranks_of, shares_of
from app.api.schemas.comparison import Comparison, Delta
from app.core.jobs.models import Job, JobState
from app.core.problems import Problem
from model.domain import SCORE_RANGES, SCORE_TOLERANCES

MODEL = {"name": "apex", "version": "apex-1", "trained": True, "checkpoint_sha256": "c0ffee"}
MIDDLE = {name: (low + high) / 2 for name, (low, high) in SCORE_RANGES.items()}


def scored(job_id: str, **scores: float) -> Job:
    result = {"scores": MIDDLE | scores, "ranges": SCORE_RANGES}
    return Job(id=job_id, storage_key=job_id, status=JobState.SUCCEEDED, result=result, model=dict(MODEL))


def ranked(comparison: Comparison) -> list[tuple[int, str]]:
    return [(entry.rank, entry.job_id) for entry in comparison.ranking]


def test_the_example_of_the_contract() -> None:
    jobs = [
        scored("job_1", score_streams=60.2, musicality=3.41),
        scored("job_2", score_streams=60.1, musicality=3.405),
        scored("job_3", score_streams=64.3, musicality=3.43),
    ]
    comparison = compare(jobs, {"score_streams": 0.5, "musicality": 0.5})
    assert ranked(comparison) == [(1, "job_3"), (2, "job_1"), (2, "job_2")]
    assert [entry.tied_with_next for entry in comparison.ranking] == [False, True, False]
    assert [entry.value for entry in comparison.ranking] == [0.6252, 0.6022, 0.6011]
    assert comparison.deltas[0].model_dump() == {
        "a": "job_3",
        "b": "job_1",
        "score_streams": 4.1,
        "musicality": 0.02,
        "within_noise": [],
    }
    assert comparison.deltas[1].within_noise == ["score_streams", "musicality"]
    assert (comparison.model_version, comparison.trained, comparison.basis) == ("apex-1", True, BASIS)
    assert comparison.noise.model_dump() == {"score_streams": 0.2, "musicality": 0.01}
    assert comparison.tie_band == 0.0022  # half of 0.2 in 100 and half of 0.01 in 4


def test_each_score_counts_from_its_lowest_to_its_highest() -> None:
    lowest = scored("job_low", **{name: low for name, (low, _) in SCORE_RANGES.items()})
    highest = scored("job_high", **{name: high for name, (_, high) in SCORE_RANGES.items()})
    for name in SCORE_RANGES:
        ranking = compare([lowest, highest], {name: 3.0}).ranking
        assert [(entry.job_id, entry.value) for entry in ranking] == [("job_high", 1.0), ("job_low", 0.0)]


@pytest.mark.parametrize(("name", "band"), SCORE_TOLERANCES.items())
def test_a_difference_of_the_band_is_a_tie_and_one_above_it_is_not(name: str, band: float) -> None:
    low = SCORE_RANGES[name][0] + 0.1  # a number that binary fractions miss
    first, second, third = (round(low + more, 4) for more in (0, band, band + 0.0001))
    tied = compare([scored("job_1", **{name: first}), scored("job_2", **{name: second})], {name: 1.0})
    assert ([entry.rank for entry in tied.ranking], tied.deltas[0].within_noise) == ([1, 1], [name])
    apart = compare([scored("job_1", **{name: first}), scored("job_2", **{name: third})], {name: 1.0})
    assert ([entry.rank for entry in apart.ranking], apart.deltas[0].within_noise) == ([1, 2], [])


def test_ties_do_not_chain() -> None:
    values = [Fraction(10), Fraction(9), Fraction(8), Fraction(7), Fraction(5)]
    assert ranks_of(values, Fraction(1)) == [1, 1, 3, 3, 5]


def test_no_weight_is_too_large_or_too_small() -> None:
    jobs = [scored("job_1", score_streams=90.0), scored("job_2", musicality=4.9)]
    comparison = compare(jobs, {"score_streams": 1.7e308, "musicality": 5e-324})
    assert ranked(comparison) == [(1, "job_1"), (2, "job_2")]
    assert [entry.value for entry in comparison.ranking] == [0.9, 0.5]


def test_a_model_of_popularity_alone_can_be_compared() -> None:
    jobs = [scored("job_1"), scored("job_2")]
    for job, streams in zip(jobs, (1.0, 2.0), strict=True):
        assert job.result
        job.result["scores"] = {"score_streams": streams, "score_likes": 50.0}
    assert ranked(compare(jobs, {"score_streams": 1, "score_likes": 1})) == [(1, "job_2"), (2, "job_1")]
    with pytest.raises(Problem, match="validation_error") as refused:
        compare(jobs, {"musicality": 1, "score_likes": 1})
    assert refused.value.extensions["errors"] == [
        {
            "pointer": "#/criterion/musicality",
            "detail": "The model that scored these jobs gives score_streams, score_likes.",
        }
    ]


def test_scores_of_an_untrained_model_are_said_to_mean_nothing() -> None:
    jobs = [replace(scored(job_id), model=MODEL | {"trained": False}) for job_id in ("job_1", "job_2")]
    comparison = compare(jobs, {"clarity": 1})
    assert not comparison.trained
    assert comparison.basis.startswith("The model is untrained: its scores, and so this ranking, mean nothing.")


@pytest.mark.parametrize("status", [state for state in JobState if state is not JobState.SUCCEEDED])
def test_a_job_without_scores_is_named(status: JobState) -> None:
    other = replace(scored("job_2"), status=status, result=None, model=None)
    with pytest.raises(Problem, match="jobs_not_comparable") as refused:
        compare([scored("job_1"), other], {"clarity": 1})
    assert refused.value.extensions == {"jobs": [{"job_id": "job_2", "detail": f"The job is {status}."}]}


@pytest.mark.parametrize("change", [{"version": "apex-2"}, {"checkpoint_sha256": "decaf"}])
def test_jobs_of_two_models_are_named_with_their_versions(change: dict[str, str]) -> None:
    other = replace(scored("job_2"), model=MODEL | change)
    with pytest.raises(Problem, match="jobs_not_comparable") as refused:
        compare([scored("job_1"), other], {"clarity": 1})
    assert [entry["job_id"] for entry in refused.value.extensions["jobs"]] == ["job_1", "job_2"]
    assert refused.value.extensions["jobs"][1]["detail"] == f"Scored by {(MODEL | change)['version']}."


def test_precision_and_device_may_differ() -> None:
    other = replace(scored("job_2"), model=MODEL | {"precision": "bf16", "device": "cpu"})
    assert len(compare([scored("job_1"), other], {"clarity": 1}).ranking) == 2


def test_every_score_has_a_tolerance_and_a_place_in_a_delta() -> None:
    assert set(SCORE_TOLERANCES) == set(SCORE_RANGES)
    assert set(Delta.model_fields) == {"a", "b", "within_noise", *SCORE_RANGES}


def score(name: str) -> st.SearchStrategy[float]:
    low, high = (round(bound * 10_000) for bound in SCORE_RANGES[name])
    return st.integers(low, high).map(lambda n: n / 10_000)


WEIGHTS = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
CRITERIA = st.dictionaries(st.sampled_from(list(SCORE_RANGES)), WEIGHTS, min_size=1)
SCORES = st.fixed_dictionaries({name: score(name) for name in SCORE_RANGES})
TRACKS = st.lists(SCORES, min_size=2, max_size=8)


def jobs_of(tracks: list[dict[str, float]]) -> list[Job]:
    return [scored(f"job_{n}", **scores) for n, scores in enumerate(tracks)]


@given(TRACKS, CRITERIA, st.randoms())
def test_the_order_of_the_jobs_changes_nothing(tracks: list[dict[str, float]], criterion: Any, random: Any) -> None:
    jobs = jobs_of(tracks)
    shuffled = random.sample(jobs, len(jobs))
    assert compare(shuffled, criterion) == compare(jobs, criterion)


@given(TRACKS, CRITERIA, st.randoms())
def test_the_order_of_the_criterion_changes_nothing(
    tracks: list[dict[str, float]], criterion: Any, random: Any
) -> None:
    shuffled = dict(random.sample(list(criterion.items()), len(criterion)))
    assert ranked(compare(jobs_of(tracks), shuffled)) == ranked(compare(jobs_of(tracks), criterion))


@given(TRACKS, st.dictionaries(st.sampled_from(list(SCORE_RANGES)), st.integers(1, 10**6), min_size=1))
def test_the_scale_of_the_weights_changes_nothing(tracks: list[dict[str, float]], criterion: dict[str, int]) -> None:
    comparison = compare(jobs_of(tracks), criterion)
    for scale in (2, 1000, 10**9):
        scaled = compare(jobs_of(tracks), {name: float(weight * scale) for name, weight in criterion.items()})
        assert (scaled.ranking, scaled.tie_band) == (comparison.ranking, comparison.tie_band)


@given(SCORES, SCORES)
def test_a_delta_turned_around_changes_its_sign(first: dict[str, float], second: dict[str, float]) -> None:
    a, b = (ranked_job(job, shares_of(dict.fromkeys(SCORE_RANGES, 1))) for job in jobs_of([first, second]))
    forth, back = delta(a, b), delta(b, a)
    assert (forth["a"], forth["b"], forth["within_noise"]) == (back["b"], back["a"], back["within_noise"])
    assert all(forth[name] == -back[name] for name in SCORE_RANGES)


@given(TRACKS, CRITERIA)
def test_a_ranking_falls_and_holds_every_job_once(tracks: list[dict[str, float]], criterion: Any) -> None:
    comparison = compare(jobs_of(tracks), criterion)
    assert sorted(entry.job_id for entry in comparison.ranking) == sorted(job.id for job in jobs_of(tracks))
    assert comparison.ranking[0].rank == 1
    for above, below in pairwise(comparison.ranking):
        assert above.value >= below.value
        assert below.rank >= above.rank
        assert above.tied_with_next == (below.rank == above.rank)


@given(SCORES, st.sampled_from(list(SCORE_RANGES)), CRITERIA)
def test_a_higher_score_never_lowers_a_rank(scores: dict[str, float], name: str, criterion: Any) -> None:
    better = scored("job_better", **scores | {name: SCORE_RANGES[name][1]})
    comparison = compare([better, scored("job_as_it_was", **scores)], criterion)
    assert {entry.job_id: entry.rank for entry in comparison.ranking}["job_better"] == 1
