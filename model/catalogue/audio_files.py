"""Finds the audio of songs by their ids: in a folder with all that it links to, or under a URL that fsspec reads.

An id finds the files named `{id}.*` at any depth; one with slashes is a path below the folder. Names are compared in
Unicode's composed form (NFC), because some file systems and archives decompose them (NFD).
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from model.audio.containers import HEAD_BYTES, detect_container
from model.domain import AudioError
from model.training.tables import DataError, composed


class AudioAmbiguous(AudioError):
    """More than one file of audio has the name of the song."""

    code = "audio_ambiguous"


class NoAudio(AudioError):
    """Several files have the name of the song, and none of them is audio."""

    code = "unsupported_media_type"


@dataclass(frozen=True)
class Folder:
    """Files by their names without suffix and folders by their names, both in NFC. A link to a folder is that folder.

    So folders may contain each other, and a folder that is linked to twice is read once.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    folders: dict[str, list["Folder"]] = field(default_factory=dict)

    def add_file(self, path: str) -> None:
        """Add a file, unless its name has no suffix or begins with it."""
        if stem := path.rpartition("/")[2].rpartition(".")[0]:
            self.files.setdefault(composed(stem), []).append(path)

    def add_folder(self, path: str, folder: "Folder") -> None:
        self.folders.setdefault(composed(path.rpartition("/")[2]), []).append(folder)

    def below(self, parts: list[str]) -> Iterator[str]:
        """The files at a path of names, whose last one has no suffix."""
        if len(parts) == 1:
            yield from self.files.get(parts[0], ())
        else:
            for folder in self.folders.get(parts[0], ()):
                yield from folder.below(parts[1:])


@dataclass(frozen=True)
class AudioFiles:
    """What a folder or URL holds."""

    system: Any
    root: Folder
    by_name: dict[str, list[str]]

    def named(self, song_id: str) -> list[str]:
        """The paths of the files that an id names, each file once; never outside the folder and what it links to."""
        parts = composed(song_id).split("/")
        paths = [*self.root.below(parts)] if len(parts) > 1 else self.by_name.get(parts[0], [])
        if is_local(self.system) and len(paths) > 1:
            return sorted({os.path.realpath(path): path for path in paths}.values())
        return sorted(paths)


def find_audio(audio: str) -> AudioFiles:
    """The files of a folder or URL. Raises DataError where there are none."""
    try:
        system, root = fsspec.core.url_to_fs(audio)
        folders = _local(root) if is_local(system) else _remote(system.find(root), root)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"{audio}: cannot be listed: {error}") from error
    by_name: dict[str, list[str]] = {}
    for folder in folders:
        for name, paths in folder.files.items():
            by_name.setdefault(name, []).extend(paths)
    if not by_name:
        raise DataError(f"{audio}: there is no such folder, or it holds no files")
    return AudioFiles(system, folders[0], by_name)


def is_local(system: Any) -> bool:
    """Whether the paths of a file system are files of this machine."""
    return isinstance(system, LocalFileSystem)


def choose_audio(system: Any, paths: list[str]) -> str:
    """The one path whose first bytes are audio's: a song may have its words and its cover beside it.

    A single path is not looked at: decoding it says more. Raises AudioAmbiguous and NoAudio.
    """
    if len(paths) == 1:
        return paths[0]
    found = [path for path in paths if _is_audio(system, path)]
    if len(found) > 1:
        raise AudioAmbiguous(f"there are {_listed(found)}")
    if not found:
        raise NoAudio(f"none of {_listed(paths)} is audio")
    return found[0]


def _is_audio(system: Any, path: str) -> bool:
    try:
        head: bytes = system.cat_file(path, start=0, end=HEAD_BYTES)
    except OSError:
        return False
    return detect_container(head) is not None


def _local(root: str) -> list[Folder]:
    """The folder and then all below it, links followed. What cannot be listed below it is left out."""
    read = {os.path.realpath(root): (top := Folder())}
    waiting = [(root, top)]
    while waiting:
        path, folder = waiting.pop()
        for entry in _entries(path, required=path == root):
            if os.path.isdir(entry):
                real = os.path.realpath(entry)
                if real not in read:
                    read[real] = Folder()
                    waiting.append((entry, read[real]))
                folder.add_folder(entry, read[real])
            elif os.path.isfile(entry) or not os.path.exists(entry):  # a broken link is a file that cannot be read
                folder.add_file(entry)
    return [*read.values()]


def _entries(path: str, *, required: bool) -> list[str]:
    try:
        return sorted(os.path.join(path, name) for name in os.listdir(path))
    except OSError:
        if required:
            raise
        return []


def _remote(paths: Iterable[str], root: str) -> list[Folder]:
    """The folder and then all below it, from the paths of the files."""
    read = {"": Folder()}

    def folder(path: str) -> Folder:
        if path not in read:
            read[path] = Folder()
            folder(path.rpartition("/")[0]).add_folder(path, read[path])
        return read[path]

    for path in paths:
        folder(path.removeprefix(root).strip("/").rpartition("/")[0]).add_file(path)
    return [*read.values()]


def _listed(paths: Iterable[str]) -> str:
    """Paths for a sentence; bytes that are no text are shown as escapes."""
    return ", ".join(paths).encode("utf-8", "backslashreplace").decode()
