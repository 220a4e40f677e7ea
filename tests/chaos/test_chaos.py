"""A slice of `make chaos`, and that its checker sees what it is there to see."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.json_types import Json
from tests.chaos.campaign import Plan, run
from tests.chaos.history import History, check
from tests.chaos.scripted import Script, scores


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_accepted_is_lost_under_random_faults(tmp_path: Path) -> None:
    plan = Plan(seed=random.randrange(10_000), n_jobs=60, n_faults=20, redis_every_s=5.0)
    report = run(plan, tmp_path, lambda *_: None)
    assert report.holds, json.dumps(report.json(), default=str, indent=2)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_nothing_is_lost_with_the_real_decoder_and_network(tmp_path: Path) -> None:
    plan = Plan(seed=1, n_jobs=12, n_faults=4, n_workers=1, every_s=(3.0, 6.0), redis_every_s=8.0, real=True)
    report = run(plan, tmp_path, lambda *_: None)
    assert report.holds, json.dumps(report.json(), default=str, indent=2)


SCRIPT = Script("one")
DONE: Json = {
    "external_id": "one",
    "done": True,
    "status": "succeeded",
    "model": {"name": "scripted"},
    "result": {"scores": scores(SCRIPT.track())},
}


def history_of(*job_ids: str) -> History:
    history = History()
    history.sent(SCRIPT)
    for job_id in job_ids:
        history.acked(SCRIPT, job_id)
    return history


def test_the_checker_is_content_when_all_is_well() -> None:
    assert check(history_of("a"), {"a": DONE}, {"queue": []}).holds


def test_the_checker_sees_a_lost_job() -> None:
    assert check(history_of("a"), {}, {}).lost == {"a"}


def test_the_checker_sees_a_stuck_job() -> None:
    assert check(history_of("a"), {"a": DONE | {"done": False, "status": "running"}}, {}).stuck == {"a"}


@pytest.mark.parametrize(
    "change",
    [
        {"external_id": "nobody sent this"},
        {"status": "failed", "error": {"code": "worker_lost"}},
        {"status": "canceled"},
        {"result": {"scores": scores(replace(SCRIPT, name="another").track())}},
    ],
)
def test_the_checker_sees_an_unexpected_end(change: Json) -> None:
    assert check(history_of("a"), {"a": DONE | change}, {}).unexpected == {"a"}


def test_the_checker_sees_a_track_that_became_two_jobs() -> None:
    assert check(history_of("a"), {"a": DONE, "b": DONE}, {}).seen_twice == {"one"}
    assert check(history_of("a", "b"), {"a": DONE}, {}).seen_twice == {"one"}


def test_the_checker_sees_an_end_that_changed() -> None:
    history = history_of("a")
    history.ended("a", b"1")
    history.ended("a", b"1")
    assert check(history, {"a": DONE}, {}).holds
    history.ended("a", b"2")
    assert check(history, {"a": DONE}, {}).flipped == {"a"}


def test_the_checker_sees_what_was_left_over() -> None:
    assert not check(history_of("a"), {"a": DONE}, {"audio": ["a file"]}).holds
