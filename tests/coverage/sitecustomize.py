"""Has this process note each line of the service that it reaches, wherever it does and however it ends.

`python -m tests.coverage` puts a copy first on the path of every process that it starts.
"""

import builtins
import marshal
import mmap
from importlib.machinery import SourceFileLoader
from os.path import dirname, join
from types import CodeType

_FOLDER = dirname(__file__)
_load = SourceFileLoader.get_code


def _get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
    """The code that notes its lines, of modules that have one."""
    try:
        with open(f"{_FOLDER}{loader.path}", "rb") as file:
            code: CodeType = marshal.load(file)
            return code
    except OSError:
        return _load(loader, name)


with open(join(_FOLDER, "reached"), "r+b") as lines:
    # Shared memory: what processes noted is there when they are killed, and a sandbox needs no leave to write to it.
    setattr(builtins, "__reached__", mmap.mmap(lines.fileno(), 0))  # noqa: B010
setattr(SourceFileLoader, "get_code", _get_code)  # noqa: B010
