"""The document as the field's linter sees it. `redocly.yaml` holds the exceptions and their reasons."""

from tests.clients.npm import HERE, tool


def test_the_linter_has_nothing_to_say_about_the_document() -> None:
    tool("redocly", "lint", "../../docs/openapi.json", cwd=HERE)
