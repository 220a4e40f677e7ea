"""A slice of `make attack`, and that its checks see what they are there to see."""

import json
from pathlib import Path

import pytest

from tests.attack.campaign import Plan, run
from tests.attack.log import incidents
from tests.attack.phases.table import PHASES
from tests.attack.vitals import SPARE_DESCRIPTORS, Vitals, complaints

#: Of a machine whose cores have other work.
PATIENCE_S = 90.0
#: On a machine with a load of 100 the warm-up does not bring all that a flood brings at once: 1.37 was seen, and stays.
MAX_MEMORY_RATIO = 1.5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.needs("strace", "faketime")
def test_a_service_under_attack_loses_nothing_and_serves_again(tmp_path: Path) -> None:
    plan = Plan(1, 0.15, PHASES, recovery_s=PATIENCE_S, max_memory_ratio=MAX_MEMORY_RATIO)
    report = run(plan, tmp_path, lambda _phase: None)
    assert report.holds, json.dumps(report.json(), default=str, indent=2)


API = Vitals("api", memory_bytes=100, descriptors=20)


def test_a_process_that_is_what_it_was_is_well() -> None:
    assert complaints({1: API}, {1: API}, may_end=()) == []


@pytest.mark.parametrize(
    ("now", "may_end", "complaint"),
    [
        ({}, ["api"], "no api runs"),
        ({2: API}, [], "api ended"),
        ({1: Vitals("api", 121, 20)}, ["api"], "api: 1.21 of its memory"),
        ({1: Vitals("api", 100, 21 + SPARE_DESCRIPTORS)}, [], f"api: +{1 + SPARE_DESCRIPTORS} descriptors"),
    ],
)
def test_what_is_wrong_with_a_process_is_said(now: dict[int, Vitals], may_end: list[str], complaint: str) -> None:
    assert complaints({1: API}, now, may_end=may_end) == [complaint]


def test_an_internal_error_in_the_log_is_counted_from_where_the_phase_began(tmp_path: Path) -> None:
    line = {"logger": "app.requests", "method": "GET", "route": "/jobs", "status": 500, "tenant": "one"}
    log = tmp_path / "log"
    log.write_text(f"{json.dumps(line)}\nno JSON\n{json.dumps(line | {'status': 503})}\n")
    assert incidents(log, start=0).internal_errors == {"GET /jobs": 1}
    assert not incidents(log, start=len(json.dumps(line)) + 1).internal_errors
    assert not incidents(log, start=0, damaged="one").internal_errors
