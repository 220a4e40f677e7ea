"""Which problems are errors of the service in its log."""

import logging

import pytest

from app.api.errors import log_failure
from app.core.problems import PROBLEMS, Problem

#: With these the service keeps to a limit.
LIMITS = {"queue_full", "too_many_connections", "too_many_listeners"}


def test_a_refusal_by_a_limit_or_for_the_client_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    logged = set()
    for code in PROBLEMS:
        caplog.clear()
        log_failure(Problem(code))
        logged |= {code for record in caplog.records if record.levelno >= logging.WARNING}
    assert logged == {code for code, kind in PROBLEMS.items() if kind.status >= 500} - LIMITS
