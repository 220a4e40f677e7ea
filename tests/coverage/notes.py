"""Code that notes which of its lines are reached: each statement first sets the byte of its line in `__reached__`."""

import ast
from types import CodeType

_BLOCKS = ("body", "orelse", "finalbody")


def with_notes(source: str, path: str, first: int) -> CodeType:
    """The code of a module whose lines are numbered from `first` on. Does what it did, and takes notes."""
    tree = ast.parse(source)
    for node in list(ast.walk(tree)):
        for name in _BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [each for statement in block for each in _noted(statement, first)])
        if isinstance(node, ast.ExceptHandler):
            node.body[:0] = _notes(node, [node.lineno], first)
        if isinstance(node, ast.match_case):
            node.body[:0] = _notes(node.pattern, [node.pattern.lineno], first)
    return compile(tree, path, "exec")


def _noted(statement: ast.stmt, first: int) -> list[ast.stmt]:
    decorators = [decorator.lineno for decorator in getattr(statement, "decorator_list", ())]
    notes = _notes(statement, [*decorators, statement.lineno], first)
    is_text = isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)
    return [statement, *notes] if is_text else [*notes, statement]  # a docstring must stay the first


def _notes(place: ast.AST, lines: list[int], first: int) -> list[ast.stmt]:
    notes = ast.parse("\n".join(f"__reached__[{first + line}] = 1" for line in lines)).body
    for note in notes:
        for node in ast.walk(note):
            ast.copy_location(node, place)
    return notes
