"""Files that appear whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to. It replaces `path` when the block ends, and is removed on an error.

    durable : whether the bytes and the name are on the disk when the block has ended
    A process that is killed in the block leaves the temporary file, named `.{name}.partial`.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        if durable:
            sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_text` does. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
