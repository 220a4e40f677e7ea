"""The types of the official clients, made from docs/openapi.json: `make clients` writes them."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.clients.npm import tool

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "openapi.json"
PYTHON = ROOT / "clients" / "python" / "src" / "apex_client" / "types.py"
TYPESCRIPT = ROOT / "clients" / "typescript" / "src" / "schema.ts"

#: PEP 728 is left out because mypy does not know it.
PYTHON_OPTIONS = (
    *("--input-file-type", "openapi", "--output-model-type", "typing.TypedDict", "--target-python-version", "3.11"),
    *("--enum-field-as-literal", "all", "--use-union-operator", "--use-standard-collections"),
    *("--use-schema-description", "--use-field-description", "--no-use-closed-typed-dict", "--collapse-root-models"),
    *("--disable-timestamp", "--formatters", "builtin"),
)


def write_python(output: Path) -> None:
    generator = Path(sys.executable).with_name("datamodel-codegen")
    subprocess.run([generator, "--input", DOCUMENT, "--output", output, *PYTHON_OPTIONS], check=True, cwd=ROOT)


def write_typescript(output: Path) -> None:
    """Only what is sent and answered: types of the paths would be four times as many, and the client has its own."""
    document = json.loads(DOCUMENT.read_text())
    schemas = {"openapi": "3.1.0", "info": document["info"], "paths": {}}
    schemas["components"] = {"schemas": document["components"]["schemas"]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(schemas, file)
        file.flush()
        tool("openapi-typescript", file.name, "--output", str(output), cwd=ROOT)


#: By where it is kept.
WRITERS: Mapping[Path, Callable[[Path], None]] = {PYTHON: write_python, TYPESCRIPT: write_typescript}


if __name__ == "__main__":
    for path, write in WRITERS.items():
        write(path)
