"""The official clients as they are built."""

import shutil
from pathlib import Path

from tests.clients.npm import HERE, tool

CLIENTS = HERE.parents[1] / "clients"
PYTHON, TYPESCRIPT = CLIENTS / "python", CLIENTS / "typescript"


def build_typescript(folder: Path) -> None:
    """Make the folder what `npm run build` makes of `clients/typescript`."""
    folder.mkdir(parents=True)
    for name in ("package.json", "README.md"):
        shutil.copy(TYPESCRIPT / name, folder)
    tool("tsc", "--project", str(TYPESCRIPT), "--outDir", str(folder / "dist"), cwd=folder)
