"""What commands print: outside text is shown as it is and never obeyed."""

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

from app import cli
from app.cli.terminal import literal, note
from app.core.printable import printable

#: What Rich takes for markup, an emoji, a closing tag of nothing, and links.
NAMES = ["song [live].mp3", "a[/b].mp3", "[red]x[/red].wav", ":heart:.ogg", r"\[x].wav", "[link=http://x]y.wav"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_is_shown_as_it_is(name: str) -> None:
    file = io.StringIO()
    Console(file=file, force_terminal=True, color_system="truecolor").print(literal(name))
    assert file.getvalue() == f"{name}\n"


def test_a_file_name_cannot_move_the_cursor_or_end_the_line() -> None:
    assert printable("a\x1b[2Jb\nc\x07\x9bd\u2028.wav") == r"a\x1b[2Jb\nc\x07\x9bd\u2028.wav"
    assert printable("Beyoncé\u3000曲 👩‍🎤.wav") == "Beyoncé\u3000曲 👩‍🎤.wav"


def test_a_name_that_is_no_text_can_be_printed() -> None:
    assert printable(b"\xff.mp3".decode("utf-8", "surrogateescape")).encode() == rb"\udcff.mp3"


def test_a_long_path_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    note(f"see {'x' * 300}/report.html")
    assert capsys.readouterr().err == f"see {'x' * 300}/report.html\n"


def test_no_command_gives_rich_a_sentence_with_values_in_it() -> None:
    """Rich would take brackets in the values for markup; `literal` and `note` do not."""
    for path in Path(cli.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            by_rich = isinstance(call.func, ast.Attribute) and call.func.attr in ("print", "status", "rule")
            values = [argument for argument in call.args if isinstance(argument, ast.JoinedStr)]
            assert not (by_rich and values), f"{path}:{call.lineno}"
