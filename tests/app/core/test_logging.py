"""Log lines: JSON, with the request's id and whatever was given beside the message."""

import json
import logging
import sys

from app.core.logging import JsonFormatter, logged_as


def line(**values: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "%s done", "args": ("it",), **values})
    text = JsonFormatter().format(record)
    assert "\n" not in text
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_a_line_is_json_with_its_extras() -> None:
    found = line(job_id="job_1", attempt=2)
    assert (found["message"], found["level"], found["logger"]) == ("it done", "INFO", "x")
    assert (found["job_id"], found["attempt"]) == ("job_1", 2)
    assert "request_id" not in found


def test_a_line_carries_the_id_of_its_request() -> None:
    with logged_as("r-1", "t-1"):
        assert (line()["request_id"], line()["trace_id"]) == ("r-1", "t-1")
    assert "trace_id" not in line()


def test_an_exception_stays_within_its_line() -> None:
    try:
        raise ValueError("multi\nline")
    except ValueError:
        assert "ValueError: multi\nline" in str(line(exc_info=sys.exc_info())["exception"])


def test_what_json_cannot_say_is_said_as_text() -> None:
    assert line(path={1, 2}, nothing=None)["path"] == "{1, 2}"
