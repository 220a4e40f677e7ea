"""The table of problems, and the object that stands in responses and failed jobs."""

import re
import subprocess
import sys

import pytest

from app.api.schemas.problem import Problem as ProblemBody
from app.core.problems import PROBLEMS, Problem, invalid_field, pointer, problem_object
from model import domain
from tests.app.api.asgi import SECRET


def test_every_kind_is_complete() -> None:
    for code, kind in PROBLEMS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert (kind.code, kind.type) == (code, f"/problems/{code.replace('_', '-')}")
        assert 400 <= kind.status <= 599
        assert kind.meaning.endswith(".")
        assert kind.remedy.endswith(".")
        assert not kind.title.endswith(".")


def test_every_way_that_a_track_can_fail_has_a_kind() -> None:
    errors = [error for error in vars(domain).values() if isinstance(error, type) and hasattr(error, "code")]
    assert len(errors) > 6
    assert {error.code for error in errors} <= set(PROBLEMS)


def test_a_problem_object_is_what_the_schema_says() -> None:
    problem = problem_object("worker_lost", "Each of 3 runs ended with its worker.", attempts=3, request_id="r-1")
    assert ProblemBody.model_validate(problem, strict=True).model_dump() == problem


def test_an_unknown_code_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        problem_object("nonsense", "x")
    with pytest.raises(KeyError):
        Problem("nonsense")


def test_a_problem_knows_its_object() -> None:
    problem = Problem("payload_too_large", "The limit is 1 byte.", limit_bytes=1)
    shown = problem.object(instance="/score")
    assert (shown["detail"], shown["limit_bytes"], shown["instance"]) == ("The limit is 1 byte.", 1, "/score")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (["external_id"], "#/external_id"),
        (["metadata", "album"], "#/metadata/album"),
        (["items", 3, "x"], "#/items/3/x"),
        (["metadata", f"{SECRET} and more", "[key]"], "#/metadata"),
        (["a/b"], "#"),
        ([], "#"),
    ],
)
def test_a_pointer_shows_plain_names_only(path: list[str | int], shown: str) -> None:
    assert pointer(path) == shown


def test_a_bad_field_is_pointed_at() -> None:
    assert invalid_field("metadata", "x").extensions == {"errors": [{"pointer": "#/metadata", "detail": "x"}]}


def test_the_table_needs_the_standard_library_only() -> None:
    code = (
        "import sys, app.core.problems; sys.exit(any(name in sys.modules for name in ('fastapi', 'pydantic', 'redis')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
