"""Both documents as the field's linters see them: no error, no warning, no exception."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.api.openapi.downgrade import downgrade
from app.core.json_types import Json
from tests.app.api.documented import document
from tests.clients.npm import HERE, tool

DOCUMENTS: dict[str, Callable[[], Json]] = {"3.1": document, "3.0": lambda: downgrade(document())}


@pytest.fixture(params=DOCUMENTS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    written = tmp_path / "openapi.json"
    written.write_text(json.dumps(DOCUMENTS[request.param]()))
    return str(written)


def test_redocly_has_nothing_to_say(path: str) -> None:
    tool("redocly", "lint", "--config", "redocly.yaml", path, cwd=HERE)


def test_spectral_has_nothing_to_say(path: str) -> None:
    tool("spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", path, cwd=HERE)
