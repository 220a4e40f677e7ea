"""The files of the page, read once: each with its compressed copy, under a folder that is named after what is in them.

The name changes with any byte of any file, so a browser may keep them for ever, and never mixes those of two versions.
"""

import gzip
import hashlib
import mimetypes
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

STATIC = Path(__file__).parent / "static"
DIGEST_CHARS = 16
#: A module that another one imports at its top; one that it imports later is called like a function.
IMPORT = re.compile(r'^(?:import|\} from|import .* from) "(\.[^"]*)";$', re.MULTILINE)
#: What the system's table of types may lack.
MEDIA_TYPES = {".js": "text/javascript", ".woff2": "font/woff2"}


@dataclass(frozen=True)
class PageFile:
    """One file as it is sent: `compressed` by gzip, or None where that saves next to nothing."""

    body: bytes
    compressed: bytes | None
    media_type: str

    @classmethod
    def read(cls, path: Path) -> Self:
        guessed = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls.of(path.read_bytes(), guessed)

    @classmethod
    def of(cls, body: bytes, media_type: str) -> Self:
        compressed = gzip.compress(body, mtime=0)
        return cls(body, compressed if len(compressed) < 0.95 * len(body) else None, media_type)


@dataclass(frozen=True)
class PageFiles:
    """Every file by its path in `static/`, and the digest of them all."""

    by_path: Mapping[str, PageFile]
    digest: str

    @classmethod
    def read(cls, folder: Path = STATIC) -> Self:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        by_path = {path.relative_to(folder).as_posix(): PageFile.read(path) for path in paths}
        return cls(by_path, _digest((name, file.body) for name, file in by_path.items()))

    def modules(self, entry: str) -> list[str]:
        """The modules that load with an entry, itself first: what it imports, and what that imports."""
        found = [entry]
        for module in found:  # grows while it is gone through
            for name in IMPORT.findall(self.by_path[module].body.decode()):
                path = posixpath.normpath(posixpath.join(posixpath.dirname(module), name))
                if path not in found:
                    found.append(path)
        return found


def _digest(named: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, body in named:
        digest.update(f"{name}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()[:DIGEST_CHARS]
