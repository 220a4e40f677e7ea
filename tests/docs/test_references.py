"""What pages and docstrings refer to exists; every page can be found."""

from pathlib import Path

import pytest

from tests.docs.references import ROOT, Text, docstrings, linked_pages, missing, pages


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: str(page.path.relative_to(ROOT)))
def test_a_page_refers_to_nothing_that_is_not_there(page: Text) -> None:
    assert missing(page) == []


def test_no_docstring_refers_to_anything_that_is_not_there() -> None:
    assert {str(module.path.relative_to(ROOT)): wrong for module in docstrings() if (wrong := missing(module))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "`app/nothing.py`",
        "`nothing.md`",
        "`tests/nothing/`",
        "`model.audio.nothing`",
        "`model.domain.NOTHING`",
        "`worker.supervisor.Supervisor.nothing`",
        "`python -m worker.nothing`",
        "`no_such_name`",
        "`NoSuchName`",
        "`Supervisor.no_such_method`",
        "`apex nothing`",
        "`apex weights nothing`",
        "`apex up --nothing`",
        "`make nothing`",
        "```sh\napex nothing\n```",
        "a command that is\n`apex\nnothing`",
    ],
)
def test_a_reference_to_nothing_is_found(text: str) -> None:
    assert missing(Text(ROOT / "README.md", text))


@pytest.mark.parametrize(
    "text",
    [
        "`app/core/settings.py`, `docs/`, `counts.csv`, `id.*`, `tests/model/test_<module>.py`",
        "`model.domain.SCORE_RANGES`, `worker.supervisor.Supervisor.run`, `model.version`, `numpy.nothing`",
        "`score_streams`, `Supervisor.run`, `python -m worker.health`",
        "`apex up --workers 2`, `apex weights pull weights`, `apex --version`, `make test`",
    ],
)
def test_what_exists_or_is_no_reference_is_left_alone(text: str) -> None:
    assert missing(Text(ROOT / "README.md", text)) == []


def test_every_page_is_linked_from_the_index_and_from_the_readme() -> None:
    index, readme = ROOT / "docs/README.md", ROOT / "README.md"
    found = {page.path for page in pages()}
    assert found - linked_pages(index) == {index}
    assert {path for path in found if path.parent != ROOT / "docs/decisions"} - linked_pages(readme) == {readme}


def test_every_decision_is_numbered_once() -> None:
    numbers = [Path(path).name[:4] for path in sorted((ROOT / "docs/decisions").glob("*.md"))]
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]
