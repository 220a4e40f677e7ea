"""Manifests: the tracks of a catalogue as a table of ids and URIs, or as a folder. Read one by one, never held."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from model.catalogue.tracks import Track
from model.training.tables import READERS, cell_error, missing_column, read_rows, text_cell

ID, URI, PLATFORM = "id", "uri", "platform"
#: Endings of the files that a listing takes for tracks, in any case. What one really is its bytes say.
AUDIO_SUFFIXES = frozenset(
    [".aac", ".aif", ".au", ".aifc", ".aiff", ".alac", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp2"]
    + [".mp3", ".mp4", ".oga", ".ogg", ".opus", ".ts", ".w64", ".wav", ".wave", ".webm"]
)
#: The whole URI of a track from what its row says. Raises `ValueError` with a sentence for what is none.
Resolve = Callable[[str], str]


def is_table(name: str) -> bool:
    """Whether a path or URL names a table, by its ending."""
    return os.path.splitext(name)[1].lower() in READERS


def is_audio(name: str) -> bool:
    """Whether a listing takes a file for a track, by its ending."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def read_manifest(path: Path, resolve: Resolve, *, name: str | None = None) -> Iterator[Track]:
    """The tracks of a table with the columns id and uri, and perhaps platform. Others are not looked at.

    name : of the table, where the path is that of a copy
    Raises DataError naming file, column and row.
    """
    shown = name or str(path)
    for index, row in enumerate(read_rows(path, (ID, URI, PLATFORM), name=name)):
        if index == 0:
            for column in (ID, URI):
                if column not in row:
                    raise missing_column(shown, column, row)
        about = {PLATFORM: platform} if (platform := row.get(PLATFORM)) not in (None, "") else {}
        yield Track(_text(shown, ID, index, row.get(ID)), _uri(shown, index, row.get(URI), resolve), about)


def list_folder(folder: Path) -> Iterator[Track]:
    """The audio below a folder, files that are links among them; the id of a track is its path below the folder.

    Raises `OSError` for what cannot be listed. Folders that are links are not entered.
    """

    def fail(error: OSError) -> None:
        raise error

    for directory, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        for path in (os.path.join(directory, name) for name in sorted(names) if is_audio(name)):
            yield Track(readable(os.path.relpath(path, folder)), path)


def readable(name: str) -> str:
    """A name of a file as text; bytes that are none are shown as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _uri(shown: str, index: int, value: object, resolve: Resolve) -> str:
    try:
        return resolve(_text(shown, URI, index, value))
    except ValueError as error:
        raise cell_error(shown, URI, index, str(error)) from error


def _text(shown: str, column: str, index: int, value: object) -> str:
    text = text_cell(shown, column, index, value)
    if not text.isprintable():
        raise cell_error(shown, column, index, f"{text!r} holds what cannot be printed")
    return text
