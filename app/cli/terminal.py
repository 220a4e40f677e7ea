"""Text for people on a terminal: outside text is shown as it is, and never obeyed."""

from rich.console import Console
from rich.text import Text

from app.core.printable import printable


def literal(value: object, style: str = "") -> Text:
    """A file name or other outside text for Rich, in which brackets are brackets and not markup."""
    return Text(printable(str(value)), style)


def note(value: object, style: str = "") -> None:
    """Print a sentence with outside text on stderr. Its line is not broken, so that paths can be copied."""
    Console(stderr=True).print(literal(value, style), soft_wrap=True)


def warn(value: object) -> None:
    """Print a sentence on stderr that begins with "warning"."""
    note(f"warning: {value}", "yellow")
