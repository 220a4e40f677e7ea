"""Multipart forms, parsed as they arrive: files are passed on, the few text fields are kept.

Knows neither storage nor requests. A file name is only shown to its sender; media types are ignored.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.api.schemas.options import BatchOptions, TrackOptions
from app.core.problems import Problem, invalid_field

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

KIB = 1024
#: Everything in a form that is not its files: text parts, part headers, boundaries, epilogue.
FRAMING_BYTES = 256 * KIB
TEXT_BYTES = 64 * KIB
PART_HEADERS = 8
PART_HEADER_BYTES = 4 * KIB
FILENAME_CHARS = 255

MAX_BATCH_FILES = 20

Sink = Callable[[bytes | memoryview], None]


@dataclass(frozen=True)
class FormSpec:
    """Which parts a form may have: so many files under one name, and the text fields of `options`."""

    file_field: str
    max_files: int
    options: type[BaseModel]


TRACK_FORM = FormSpec("file", 1, TrackOptions)
BATCH_FORM = FormSpec("files", MAX_BATCH_FILES, BatchOptions)


class Fields(dict[str, str]):
    """Text fields by name. An unknown name is an error: dropping it in silence would be worse.

    An empty field counts as absent: browsers send every field of a form, also those that were left empty.
    """

    def __init__(self, spec: FormSpec = TRACK_FORM) -> None:
        super().__init__()
        self.spec = spec

    def check(self, name: str) -> None:
        """Raise unless a field of this name may be added."""
        names = self.spec.options.model_fields
        if name not in names:
            raise invalid_field(name, f"Unknown field; there are {', '.join((self.spec.file_field, *names))}.")
        if name in self:
            raise invalid_field(name, "Given more than once.")

    def add(self, name: str, text: str) -> None:
        self.check(name)
        if text:
            self[name] = text


class MultipartReader:
    """Feed it chunks, then `finish()`. `open_file` gets the name of each file, or None, and returns its sink.

    The number of parts needs no limit of its own: files are counted, and every other known name is accepted once.
    """

    def __init__(self, boundary: bytes, *, fields: Fields, open_file: Callable[[str | None], Sink]) -> None:
        # The parser knows the form, and not the other way round: in a cycle, the bytes that they hold would stay in
        # memory until the next garbage collection.
        self._form = _Form(fields, open_file)
        self._parser = _parser_in_preamble(boundary, self._form)
        self._n_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body. Bytes of a file have gone to its sink when this returns."""
        self._n_bytes += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Problem("malformed_multipart") from error
        if self._n_bytes - self._form.file_bytes > FRAMING_BYTES:
            raise Problem("malformed_multipart", f"More than {FRAMING_BYTES} bytes of the form are not its files.")

    def finish(self) -> None:
        """End the body. Raises when it ended too soon or held no file."""
        if not self._form.ended:
            raise Problem("malformed_multipart", "The body ends before its closing boundary.")
        if not self._form.n_files:
            raise Problem("missing_file", f"The form has no part named `{self._form.spec.file_field}`.")


class _Form:
    """What the parser calls, and what became of the form so far."""

    def __init__(self, fields: Fields, open_file: Callable[[str | None], Sink]) -> None:
        self.spec = fields.spec
        self.n_files = self.file_bytes = 0
        self.ended = False
        self._fields = fields
        self._open_sink = open_file
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._part: _Part = _Preamble()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._take_header_name,
            "on_header_value": self._take_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_part_data": self._take_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._disposition = b""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _open_part(self) -> None:
        kind, parameters = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in parameters:
            raise Problem("malformed_multipart", "A part has no `Content-Disposition: form-data` with a name.")
        name = parameters[b"name"].decode("utf-8", "replace")
        if name == self.spec.file_field:
            self._part = self._opened_file(parameters.get(b"filename"))
        else:
            self._fields.check(name)
            self._part = _Text(name, self._fields)

    def _opened_file(self, filename: bytes | None) -> "_File":
        if self.n_files == self.spec.max_files:
            limit = f"{self.spec.max_files} part(s) named `{self.spec.file_field}`"
            raise Problem("too_many_files", f"The form may have {limit}; it has more.")
        self.n_files += 1
        return _File(self._open_sink(display_name(filename)))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        self.file_bytes += self._part.take(memoryview(data)[start:end])

    def _end_part(self) -> None:
        self._part.end()

    def _end(self) -> None:
        self.ended = True


class _Part(Protocol):
    """A part of the form while it arrives."""

    def take(self, data: memoryview, /) -> int:
        """Take the next bytes; returns how many of them are a file's."""

    def end(self) -> None:
        """The part is complete."""


class _Preamble:
    """What stands before the first part, and is ignored."""

    def take(self, _data: memoryview, /) -> int:
        return 0

    def end(self) -> None:
        """Nothing was kept."""


@dataclass(frozen=True)
class _File:
    sink: Sink

    def take(self, data: memoryview, /) -> int:
        self.sink(data)
        return len(data)

    def end(self) -> None:
        """The sink has it all."""


@dataclass(frozen=True)
class _Text:
    name: str
    fields: Fields
    text: bytearray = field(default_factory=bytearray)

    def take(self, data: memoryview, /) -> int:
        if len(self.text) + len(data) > TEXT_BYTES:
            raise invalid_field(self.name, f"Longer than {TEXT_BYTES} bytes.")
        self.text.extend(data)
        return 0

    def end(self) -> None:
        try:
            self.fields.add(self.name, self.text.decode())
        except UnicodeDecodeError:
            raise invalid_field(self.name, "Not UTF-8.") from None


def _parser_in_preamble(boundary: bytes, form: _Form) -> MultipartParser:
    """A parser to which the form's preamble (RFC 2046, 5.1.1) is the data of a part that has begun already.

    By itself it knows no preamble, and no spaces behind the first boundary. The form hears of nothing before that.
    """
    callbacks: MultipartCallbacks = {}
    try:
        parser = MultipartParser(boundary, callbacks, max_header_count=PART_HEADERS, max_header_size=PART_HEADER_BYTES)
    except FormParserError as error:
        raise Problem("malformed_multipart", "The boundary is too long.") from error
    parser.write(b"--%s\r\n\r\n\r\n" % boundary)
    callbacks.update(form.callbacks())
    return parser


def display_name(filename: bytes | None) -> str | None:
    """A client's file name, safe to show: the last step of its path, printable and short; None for none."""
    name = re.split(r"[/\\]", (filename or b"").decode("utf-8", "replace"))[-1]
    return "".join(filter(str.isprintable, name))[:FILENAME_CHARS] or None
