"""Finds what documents and docstrings refer to, and what of it does not exist.

Text in backticks counts as a reference where it has one of these forms; all else is left alone.

- A path: it begins with a folder of the repository's top (`app/`, `docs/`, …) or ends like a source or a page (`.py`,
  `.md`, …). It is looked for in the document's own folder, those above it, and the `lua` folder beside a module.
  Patterns and placeholders (`*`, `<id>`, `{id}`, `NNNN`) and names of data files (`counts.csv`, `result.json`) are no
  paths of the repository.
- A dotted name of one of our packages, and `python -m` with one.
- A name that only code has: with an underscore, in camel case, or of a class and its member. It must be a word of some
  source file, outside of comments and docstrings.
- A command: `apex` with what follows it, also in the code blocks of a page, and `make` with a target.

Links and their anchors are checked by rumdl, in `make check`.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from app.cli.main import app

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "worker", "model", "tests", "benchmarks")
FOLDERS = (*PACKAGES, "docs", "deploy", ".ci")

SPAN = re.compile(r"(`{1,2})([^`]+)\1")
CODE_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r"[*<>{}…]|NNNN|NAME")
PATH = re.compile(
    rf"(?:{'|'.join(map(re.escape, FOLDERS))})/\S*|\S+\.(?:py|md|toml|sh|acl|lua|yml)|Makefile|Dockerfile"
)
DOTTED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
MODULE_RUN = re.compile(r"\bpython -m ((?:app|worker|model|tests|benchmarks)\b[\w.]*)")
NAME = re.compile(r"[A-Za-z][a-z0-9]*(?:_[a-z0-9]+)+|(?:[A-Z][a-z0-9]+){2,}|[A-Z][A-Za-z]*[a-z]\w*\.\w+")
MAKE = re.compile(r"make ([a-z]+)")
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")

#: Names of others that this project's code has no occasion to write.
FOREIGN_NAMES = {"EventSource"}

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Text:
    """A page, or the docstrings of a module."""

    path: Path
    text: str

    @property
    def prose(self) -> str:
        return CODE_BLOCK.sub("", self.text)

    def spans(self) -> Iterator[str]:
        return (" ".join(span.split()) for _, span in SPAN.findall(self.prose))

    def commands(self) -> Iterator[str]:
        """Lines that begin with `apex`, in backticks or in a code block."""
        blocks = "".join(CODE_BLOCK.findall(self.text))
        yield from re.findall(r"^(?:\w+=\S+ )*(apex [^#|<>\n]*)", blocks, re.MULTILINE)
        yield from (span for span in self.spans() if span.partition(" ")[0] == "apex")


def pages() -> Iterator[Text]:
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        yield Text(path, path.read_text())


def docstrings() -> Iterator[Text]:
    for path in sorted(files(PACKAGES, "py")):
        found = [ast.get_docstring(node) or "" for node in ast.walk(parsed(path)) if isinstance(node, DOCUMENTED)]
        yield Text(path, "\n".join(found))


def files(folders: Iterable[str], ending: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in (ROOT / folder).rglob(f"*.{ending}") if "node_modules" not in path.parts)


def missing(text: Text) -> list[str]:
    """What the text refers to and does not exist, a line each."""
    wrong = [f"no such command: {line}" for line in text.commands() if not is_command(line)]
    for span in text.spans():
        wrong += [f"no such file: {span}"] if is_path(span) and not path_exists(span, text.path) else []
        wrong += [f"no such name: {name}" for name in dotted(span) if not is_defined(name)]
        wrong += [f"no code has this name: {span}"] if not is_known(span) else []
        wrong += [f"no such target: make {name}" for name in MAKE.findall(span) if name not in targets()]
    return wrong


def is_path(span: str) -> bool:
    return bool(PATH.fullmatch(span)) and not PLACEHOLDER.search(span)


def path_exists(span: str, document: Path) -> bool:
    above = [folder for folder in document.parents if folder.is_relative_to(ROOT)]
    return any((folder / span).exists() for folder in (*above, document.parent / "lua"))


def dotted(span: str) -> list[str]:
    whole = [span] if DOTTED.fullmatch(span) and not is_path(span) and span not in fields_of_a_job() else []
    return whole + MODULE_RUN.findall(span)


@cache
def fields_of_a_job() -> frozenset[str]:
    """`model.version` and the like: what a client reads in the JSON of a job."""
    schemas = json.loads((ROOT / "docs/openapi.json").read_text())["components"]["schemas"]
    return frozenset(f"model.{name}" for name in schemas["ModelIdentity"]["properties"])


def is_defined(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something that a module defines or imports."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        if (path := module_file(parts[:n])) is not None:
            return defines(parsed(path), parts[n:])
    return False


def module_file(parts: list[str]) -> Path | None:
    base = ROOT.joinpath(*parts)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def defines(scope: ast.AST, names: list[str]) -> bool:
    if not names:
        return True
    inner = [node for node in getattr(scope, "body", []) if names[0] in bound(node)]
    return any(defines(node, names[1:]) for node in inner)


def bound(statement: ast.stmt) -> set[str]:
    """The names that a statement defines in its scope."""
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {(alias.asname or alias.name).partition(".")[0] for alias in names}
    targets = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return {target.id for target in targets}


def is_known(span: str) -> bool:
    """Whether a name that only code can have is a word of the code, its members included."""
    name = span.removesuffix("()")
    if not NAME.fullmatch(name) or DOTTED.fullmatch(name) or name in FOREIGN_NAMES:
        return True
    return all(part in words() for part in name.split("."))


@cache
def words() -> frozenset[str]:
    """The words of all source files, without comments and docstrings of Python."""
    found: set[str] = set()
    for path in source_files():
        found |= words_of_module(parsed(path)) if path.suffix == ".py" else set(re.findall(r"\w+", path.read_text()))
    return frozenset(found)


def source_files() -> Iterator[Path]:
    """All but the modules beside this one, which hold wrong names on purpose."""
    for ending in ("py", "lua", "acl", "sh"):
        found = files((*PACKAGES, "deploy"), ending)
        yield from (path for path in found if path.parent != Path(__file__).parent)
    yield from (ROOT / name for name in ("Dockerfile", "Makefile", "docker-compose.yml", "pyproject.toml"))


def words_of_module(module: ast.Module) -> set[str]:
    found: set[str] = set()
    in_docstrings = {id(node.body[0].value) for node in ast.walk(module) if has_docstring(node)}  # type: ignore[attr-defined]
    for node in ast.walk(module):
        for _, value in ast.iter_fields(node):
            if isinstance(value, str) and id(node) not in in_docstrings:
                found |= set(re.findall(r"\w+", value))
    return found


def has_docstring(node: ast.AST) -> bool:
    return isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def is_command(line: str) -> bool:
    """Whether the words of a line lead to a command of `apex`, and its options are that command's."""
    command: Any = typer.main.get_command(app)
    words = line.split()[1:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        command = command.commands.get(words.pop(0))
    if command is None:
        return False
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return all(word.partition("=")[0] in options for word in words if word.startswith("--"))


def linked_pages(page: Path) -> set[Path]:
    links = LINK.findall(Text(page, page.read_text()).prose)
    return {(page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link}
