"""Where the audio of tracks comes from."""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from model.catalogue.tracks import Track
from model.domain import ApexError


class Unavailable(ApexError):
    """This machine, or a store, cannot do its work now; no fault of a track. Trying again later may help."""


class Sources(Protocol):
    """Opens what the URIs of tracks name."""

    def open(self, uri: str) -> BinaryIO:
        """A regular file of this machine with the audio, which is gone once it is closed where it is a copy.

        Raises an `AudioError` or `OSError` where the track is at fault, `Unavailable` where it is not.
        """


class LocalFiles:
    """Paths of this machine, or ones that every node has."""

    def open(self, uri: str) -> BinaryIO:
        return open_regular(Path(uri))


def open_regular(path: Path) -> BinaryIO:
    """Open a file, links followed. Raises `OSError`, also for what is no file, such as a pipe."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is not a file")
    return file


@dataclass
class TrackFile:
    """The file of a track, which `model.audio.prefetch` opens; its hash is there once it has been opened."""

    track: Track
    sources: Sources = field(repr=False)
    sha256: str | None = None

    def open(self, mode: Literal["rb"], /) -> BinaryIO:  # noqa: ARG002
        file = self.sources.open(self.track.uri)
        self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # regular ones have it
        return file
