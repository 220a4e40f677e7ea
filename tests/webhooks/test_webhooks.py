"""A slice of `make webhooks`, and that its checker sees what it is there to see."""

import json
import random
from pathlib import Path

import pytest

from tests.webhooks.campaign import Plan, run


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_end_is_told_under_random_faults(tmp_path: Path) -> None:
    plan = Plan(seed=random.randrange(10_000), n_jobs=100, n_faults=12)
    report = run(plan, tmp_path)
    assert report.holds, json.dumps(report.json(), default=str, indent=2)
    assert report.n_expected >= 90
