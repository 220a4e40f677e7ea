"""The head of the Makefile names its words, all of them."""

import re
from pathlib import Path

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()


def test_the_head_names_every_word() -> None:
    head = MAKEFILE.partition("\n\n")[0]
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert re.findall(r"^#   (\w+)", head, re.MULTILINE) == phony.split()


def test_every_word_is_a_target() -> None:
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) <= set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
