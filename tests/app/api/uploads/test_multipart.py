"""Forms: the same fields and files, however a form is cut into chunks."""

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.uploads.multipart import BATCH_FORM, Fields, MultipartReader, Sink
from app.core.problems import Problem
from tests.app.api.asgi import BOUNDARY, form, part

#: Bytes that look like the boundary, for as long as possible.
NEARLY = b"\r\n--" + BOUNDARY
CONTENT = NEARLY[:-1] + b"\r\n" + NEARLY + b"x" + b"\r\n--\r\r\n-" + bytes(range(256))
BODY = form(part("external_id", b"a\r\nb"), part("file", CONTENT, filename='a"b.wav'), part("metadata", b"{}"))


def read(chunks: list[bytes]) -> tuple[bytes, Fields]:
    file, fields = bytearray(), Fields()
    body = MultipartReader(BOUNDARY, fields=fields, open_file=lambda _filename: file.extend)
    for chunk in chunks:
        body.feed(chunk)
    body.finish()
    return bytes(file), fields


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(body)]
    return [body[start:end] for start, end in zip(edges, edges[1:], strict=False)]


@given(st.lists(st.integers(0, len(BODY)), max_size=20))
@example(list(range(len(BODY))))
def test_any_chunks_give_the_same_file_and_fields(places: list[int]) -> None:
    assert read(cut(BODY, places)) == (CONTENT, {"external_id": "a\r\nb", "metadata": "{}"})


PREAMBLES = {
    "a line break": b"\r\n",
    "text": b"This is a message in MIME format.\r\n",
    "nearly a boundary": NEARLY[2:-1] + b"\r\n" + NEARLY[:-1] + b"\r\n",
}


@pytest.mark.parametrize("preamble", PREAMBLES.values(), ids=PREAMBLES.keys())
def test_what_stands_before_the_first_boundary_is_nothing(preamble: bytes) -> None:
    body = preamble + BODY
    for places in ([], [len(preamble) - 1], list(range(len(body)))):
        assert read(cut(body, places))[0] == CONTENT


def test_spaces_behind_a_boundary_are_nothing() -> None:
    assert read([BODY.replace(b"--%s\r\n" % BOUNDARY, b"--%s \t\r\n" % BOUNDARY)])[0] == CONTENT


@given(st.binary(max_size=300), st.lists(st.integers(0, 500), max_size=8))
def test_any_file_comes_out_as_it_went_in(content: bytes, places: list[int]) -> None:
    body = form(part("file", content))
    if b"\r\n--" + BOUNDARY not in content and not content.startswith(b"--" + BOUNDARY):
        assert read(cut(body, [place for place in places if place < len(body)]))[0] == content


@given(st.integers(0, len(BODY) - 4))
def test_a_form_cut_short_is_never_taken(length: int) -> None:
    with pytest.raises(Problem):
        read([BODY[:length]])


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=5))
def test_any_bytes_end_in_a_file_or_a_problem(noise: bytes, places: list[int]) -> None:
    for body in (noise, b"--" + BOUNDARY + b"\r\n" + noise, BODY[:100] + noise + BODY[100:]):
        with suppress(Problem):
            read(cut(body, [place for place in places if place < len(body)]))


def read_files(*parts: bytes) -> list[tuple[str | None, bytes]]:
    """What a batch's form brings: each file's label and content."""
    files: list[tuple[str | None, bytearray]] = []

    def open_file(filename: str | None) -> Sink:
        files.append((filename, bytearray()))
        return files[-1][1].extend

    body = MultipartReader(BOUNDARY, fields=Fields(BATCH_FORM), open_file=open_file)
    for byte in form(*parts):
        body.feed(bytes([byte]))
    body.finish()
    return [(filename, bytes(content)) for filename, content in files]


def test_several_files_come_out_apart_and_in_order() -> None:
    parts = [part("files", content, filename=f"{content!r}") for content in (b"one", b"", NEARLY + b"x", b"four")]
    parts.insert(2, part("batch_external_id", b"album"))
    assert [content for _, content in read_files(*parts)] == [b"one", b"", NEARLY + b"x", b"four"]


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("a.mp3", "a.mp3"),
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\a.mp3", "a.mp3"),
        ("ü ♫.mp3", "ü ♫.mp3"),
        ("a\u202e3pm.exe", "a3pm.exe"),
        ("x" * 300, "x" * 255),
        ("/", None),
        ("", None),
        (None, None),
    ],
)
def test_a_file_name_is_a_short_printable_label(filename: str | None, shown: str | None) -> None:
    assert read_files(part("files", b"x", filename=filename)) == [(shown, b"x")]


def test_a_form_takes_as_many_files_as_its_kind_says() -> None:
    files = [part("files", b"x")] * BATCH_FORM.max_files
    assert len(read_files(*files)) == 20
    with pytest.raises(Problem, match=r"too_many_files: The form may have 20 part\(s\) named `files`; it has more."):
        read_files(*files, part("files", b"x"))
    with pytest.raises(Problem, match="missing_file: The form has no part named `files`."):
        read_files(part("batch_external_id", b"x"))


def test_a_batch_has_fields_of_its_own() -> None:
    with pytest.raises(Problem, match="validation_error") as refused:
        read_files(part("external_id", b"x"), part("files", b"x"))
    [error] = refused.value.extensions["errors"]
    fields = "files, webhook_url, batch_external_id, metadata, model_version, segments, embedding, webhook_events"
    assert error["detail"] == f"Unknown field; there are {fields}."
