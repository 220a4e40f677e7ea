"""Text for people on a terminal: outside text is shown as it is, and never obeyed."""

from unicodedata import category

from rich.console import Console
from rich.text import Text

#: Control characters, bytes that are no text (as surrogates), line and paragraph separators.
_UNPRINTABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))


def printable(text: str) -> str:
    """The text on one line, with escapes for what would move the cursor, end the line or cannot be encoded."""
    return "".join(_escaped(char) if category(char) in _UNPRINTABLE else char for char in text)


def literal(value: object, style: str = "") -> Text:
    """A file name or other outside text for Rich, in which brackets are brackets and not markup."""
    return Text(printable(str(value)), style)


def note(value: object, style: str = "") -> None:
    """Print a sentence with outside text on stderr. Its line is not broken, so that paths can be copied."""
    Console(stderr=True).print(literal(value, style), soft_wrap=True)


def warn(value: object) -> None:
    """Print a sentence on stderr that begins with "warning"."""
    note(f"warning: {value}", "yellow")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
