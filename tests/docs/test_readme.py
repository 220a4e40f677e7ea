"""The README says what is so."""

import re
from pathlib import Path

from app.cli.settings import markdown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_the_declared_one() -> None:
    between = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert between
    assert between[1] == markdown(), "copy the output of `apex settings` into the README"


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets | {"with"}


def test_the_licence_of_the_default_weights_is_on_the_page() -> None:
    assert "CC-BY-NC-4.0" in README
    assert "may not be used commercially" in README
