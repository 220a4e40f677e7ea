"""Runs Python with the arguments given, and writes for `coverage report` which lines of the service were reached.

`python -m tests.coverage -m pytest` counts what is reached by any process that the tests start, directly or not. Code
that notes its lines costs little; before Python 3.12 coverage's own tracer takes a third of the processor time.
"""

import marshal
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from coverage import Coverage

from tests.coverage.notes import with_notes


def main() -> int:
    coverage = Coverage()
    with TemporaryDirectory() as name:
        folder = Path(name)
        numbers = _prepare(folder, coverage.get_option("run:source"))
        path = os.pathsep.join([name, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run([sys.executable, *sys.argv[1:]], env=os.environ | {"PYTHONPATH": path})
        reached = (folder / "reached").read_bytes()
    coverage.erase()
    coverage.get_data().add_lines({path: [n - of.start for n in of if reached[n]] for path, of in numbers.items()})
    coverage.save()
    return done.returncode


def _prepare(folder: Path, sources: object) -> Mapping[str, range]:
    """Writes what `sitecustomize.py` reads. Each file has a range of numbers: its lines, from the zeroth on."""
    assert isinstance(sources, list)
    shutil.copy(Path(__file__).with_name("sitecustomize.py"), folder)
    numbers: dict[str, range] = {}
    end = 0
    for file in sorted(file.absolute() for source in sources for file in Path(source).rglob("*.py")):
        text = file.read_text()
        start, end = end, end + text.count("\n") + 2
        numbers[str(file)] = range(start, end)
        code = folder / file.relative_to("/")
        code.parent.mkdir(parents=True, exist_ok=True)
        code.write_bytes(marshal.dumps(with_notes(text, str(file), start)))
    (folder / "reached").write_bytes(bytes(end))
    return numbers


if __name__ == "__main__":
    raise SystemExit(main())
