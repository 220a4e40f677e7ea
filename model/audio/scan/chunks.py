"""Files of chunks, each with a name and a size: RIFF, RF64, Wave64, AIFF and CAF."""

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from model.audio.byte_ranges import Source
from model.audio.decode_errors import DecodeRejected
from model.audio.scan.layout import fit_to_file, settle_tail, tail_bytes

#: Chunks that are read whole hold a description of the sound.
_MAX_BODY_BYTES = 64 * 1024
_MAX_CHUNKS = 1_000_000
_MAX_SIZE = 1 << 62
#: Begins another file, not another chunk of this one.
_OUTER_NAMES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"OggS", b"fLaC", b"caff")


@dataclass(frozen=True)
class ChunkFormat:
    """How a container writes a chunk's header: its name and size, and what the size counts."""

    size: struct.Struct
    name_bytes: int = 4
    alignment: int = 1
    size_counts_header: bool = False
    #: From this size on, one beyond the file's end means that the writer did not know.
    unknown_from: int = 0x7FFF0000

    @property
    def header_bytes(self) -> int:
        return self.name_bytes + self.size.size


IFF = ChunkFormat(struct.Struct(">I"), alignment=2)
RIFF = ChunkFormat(struct.Struct("<I"), alignment=2)
CAF = ChunkFormat(struct.Struct(">Q"), unknown_from=1 << 62)  # -1 means unknown
W64 = ChunkFormat(struct.Struct("<Q"), name_bytes=16, alignment=8, size_counts_header=True, unknown_from=1 << 62)


@dataclass
class ChunkFile:
    """The chunks of a file: where those that describe the sound are, and the sound itself."""

    source: Source
    chunks: dict[bytes, range] = field(default_factory=dict)
    data: list[range] = field(default_factory=list)
    #: Where the last chunk ends.
    end: int = 0
    warnings: Counter[str] = field(default_factory=Counter)

    def body(self, name: bytes) -> bytes:
        """What a chunk holds, empty where there is none. Raises DecodeRejected where it is absurdly long."""
        return _body(self.source, self.chunks.get(name, range(0)))


def _body(source: Source, chunk: range) -> bytes:
    if len(chunk) > _MAX_BODY_BYTES:
        raise DecodeRejected("broken")
    return source.read_at(chunk.start, len(chunk))


def read_chunks(source: Source, at: int, form: ChunkFormat, *, data: bytes, keep: Collection[bytes]) -> ChunkFile:
    """Find the sound and what describes it. Raises DecodeRejected where there is none, or part of it is missing."""
    found = ChunkFile(source)
    for name, body in _chunks(source, at, form):
        if name == data:
            body = fit_to_file(source, body.start, _data_bytes(body, found), _unknown_from(form, found), found.warnings)
            found.data.append(body)
        elif body.stop > source.n_bytes + form.alignment:
            break
        elif name in keep:
            _keep(name, body, found)
        found.end = min(body.stop, source.n_bytes)
    if not found.data:
        raise DecodeRejected("broken")
    if len(found.data) > 1:
        found.warnings["joined_streams"] = len(found.data)
    return found


def settle_end(found: ChunkFile, outer_end: int | None) -> None:
    """Find out what stands behind the last chunk: nothing, sound that no size counts, or something else.

    ``outer_end`` is where the outermost size says that the file ends, None where it says nothing. Raises
    DecodeRejected where it is unclear.
    """
    last = found.data[-1]
    if last.stop == found.end:
        found.data[-1] = settle_tail(found.source, last, outer_end, found.warnings)
    elif n_bytes := tail_bytes(found.source, found.end):
        found.warnings["trailing_data_ignored"] = n_bytes
    if outer_end is not None and not last.stop - 1 <= outer_end <= found.source.n_bytes + 1:
        found.warnings["declared_length_differs"] = 1


def _keep(name: bytes, chunk: range, found: ChunkFile) -> None:
    found.chunks.setdefault(name, chunk)
    if found.data and found.body(name) != _body(found.source, chunk):
        raise DecodeRejected("changes")


def _data_bytes(body: range, found: ChunkFile) -> int:
    """The size of a data chunk, which RF64 keeps in a chunk of its own."""
    sizes = found.body(b"ds64")
    return int.from_bytes(sizes[8:16], "little") if len(body) == 0xFFFFFFFF and len(sizes) >= 16 else len(body)


def _unknown_from(form: ChunkFormat, found: ChunkFile) -> int:
    return 1 << 62 if b"ds64" in found.chunks else form.unknown_from


def _chunks(source: Source, at: int, form: ChunkFormat) -> Iterator[tuple[bytes, range]]:
    for _ in range(_MAX_CHUNKS):
        header = source.read_at(at, form.header_bytes)
        if len(header) < form.header_bytes or not _is_name(header[: form.name_bytes]):
            return
        (size,) = form.size.unpack_from(header, form.name_bytes)
        size = min(size - (form.header_bytes if form.size_counts_header else 0), _MAX_SIZE)
        if size < 0:
            return
        body = range(at + form.header_bytes, at + form.header_bytes + size)
        yield header[: form.name_bytes], body
        at = _next(source, body, form)


def _next(source: Source, chunk: range, form: ChunkFormat) -> int:
    """Where the chunk behind one begins: some writers forget the zero that pads it to an even length."""
    padding = -len(chunk) % form.alignment
    forgotten = form.alignment == 2 and padding and _is_name(source.read_at(chunk.stop, 4))
    return chunk.stop if forgotten else chunk.stop + padding


def _is_name(name: bytes) -> bool:
    if len(name) == 16:
        return name[4:] in _W64_NAME_ENDS
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name) and name not in _OUTER_NAMES


#: Wave64 names its chunks as RIFF does and appends the rest of a GUID.
_W64_NAME_ENDS = (bytes.fromhex("f3acd3118cd100c04f8edb8a"), bytes.fromhex("2e91cf11a5d628db04c10000"))
