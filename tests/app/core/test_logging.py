"""Log lines: JSON or for people, with the request's id and whatever was given beside the message."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest

from app.core.logging import JsonFormatter, TextFormatter, logged_as


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


def text_line(**values: object) -> str:
    known = {"name": "worker.process", "levelname": "INFO", "msg": "job %s", "args": ("done",), "created": 0.0}
    return TextFormatter().format(logging.makeLogRecord({**known, **values}))


def test_a_line_for_people_has_its_time_its_message_and_its_fields() -> None:
    with logged_as("r-1", None):
        found = text_line(job_id="job_1", path="/a b", nothing=None)
    assert re.fullmatch(r"19\d\d-\d\d-\d\d \d\d:\d\d:\d\d INFO    worker.process: job done  .*", found)
    assert found.endswith('job done  request_id=r-1 job_id=job_1 path="/a b"')


def test_outside_text_cannot_end_a_line_or_move_the_cursor() -> None:
    found = text_line(args=("a\nERROR forged",), extra="b\x1b[2J\nc", empty="")
    assert found.endswith(r'job a\nERROR forged  extra="b\u001b[2J\nc" empty=""')


def test_a_traceback_for_people_stands_below_its_line() -> None:
    try:
        raise ValueError("multi\nline")
    except ValueError:
        first, *rest = text_line(exc_info=sys.exc_info()).split("\n")
    assert first.endswith("job done")
    assert all(each.startswith("  ") for each in rest)
    assert rest[-2:] == ["  ValueError: multi", "  line"]


@pytest.mark.parametrize(
    ("line_format", "on_terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("json", True, True), ("text", False, False)],
)
def test_the_lines_are_for_people_on_a_terminal_or_when_asked_for(
    line_format: str, on_terminal: bool, is_json: bool
) -> None:
    program = (
        "import logging, sys; from app.core.logging import configure_logging;"
        "configure_logging('INFO', sys.argv[1]); logging.getLogger('x').info('hello')"
    )
    reader, writer = os.openpty() if on_terminal else os.pipe()
    with open(writer, "wb") as stderr:
        subprocess.run([sys.executable, "-c", program, line_format], stderr=stderr, check=True)
        found = os.read(reader, 1000).decode()
    os.close(reader)
    assert found.startswith("{") == is_json
    assert "hello" in found
