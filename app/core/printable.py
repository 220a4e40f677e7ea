"""Outside text on one line of a terminal or a log."""

from unicodedata import category

#: Control characters, bytes that are no text (as surrogates), line and paragraph separators.
_UNPRINTABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))


def printable(text: str) -> str:
    """The text on one line, with escapes for what would move the cursor, end the line or cannot be encoded."""
    return "".join(_escaped(char) if category(char) in _UNPRINTABLE else char for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
