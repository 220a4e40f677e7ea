"""The types inside of the official clients are those of the committed document."""

from pathlib import Path

import pytest

from tests.clients.client_types import WRITERS


@pytest.mark.parametrize("kept", WRITERS, ids=lambda path: path.name)
def test_the_types_are_those_of_the_document(kept: Path, tmp_path: Path) -> None:
    made = tmp_path / kept.name
    WRITERS[kept](made)
    assert made.read_text() == kept.read_text(), "run `make clients`"
