"""What a scan of a container found: the parts of the file that a decoder is given, and what is odd about it."""

from collections import Counter
from dataclasses import dataclass, field

from model.audio.byte_ranges import Part, Source
from model.audio.containers import begins_as, is_other_file, skip_tags
from model.audio.decode_errors import DecodeRejected

#: How many bytes of sound may be missing at the end, and which part of all: less than anybody hears.
_MAX_MISSING_BYTES = 4096
_MAX_MISSING_SHARE = 1 / 256
#: How much may stand behind a data chunk whose size says less than there is, without a hint at what it is.
_MAX_UNKNOWN_BYTES = 64 * 1024
_MAX_UNKNOWN_SHARE = 1 / 16
#: Fewer bytes than this behind the sound are padding.
_MIN_TAIL_BYTES = 16
_ID3V1_BYTES = 128
_APE_FOOTER_BYTES = 32


@dataclass
class Layout:
    """The parts that make up an intact file, and counts for `model.audio.decode_warnings` by code.

    ``declared_samples`` is the length per channel that a header declares, where the scan cannot check it. ``opened_as``
    names the container that the parts make up, where it is another than the file's.
    """

    parts: list[Part]
    warnings: Counter[str] = field(default_factory=Counter)
    declared_samples: int = 0
    opened_as: str = ""


def fit_to_file(source: Source, at: int, declared_bytes: int, unknown_from: int, warnings: Counter[str]) -> range:
    """The bytes of a data chunk. Raises DecodeRejected where its size proves that sound is missing.

    A size of 0, or one that the file does not reach from ``unknown_from`` on, was left by a writer that could not seek
    back: such a chunk goes on to the end of the file.
    """
    available = source.n_bytes - at
    if 0 < declared_bytes <= available:
        return range(at, at + declared_bytes)
    missing = declared_bytes - available
    if 0 < declared_bytes < unknown_from and missing > 0:
        if missing > min(_MAX_MISSING_BYTES, declared_bytes * _MAX_MISSING_SHARE):
            raise DecodeRejected("truncated")
        warnings["declared_length_differs"] = 1
    return range(at, max(at, source.n_bytes))


def tail_bytes(source: Source, at: int) -> int:
    """How many bytes from a place to the end of the file belong to no tag that is known."""
    at = skip_tags(source.read_at, at)
    return max(0, end_without_tags(source, at) - at)


def end_without_tags(source: Source, start: int = 0) -> int:
    """Where the ID3v1, Lyrics3 and APEv2 tags begin that stand at the end of the file."""
    end = source.n_bytes
    while end > start:
        n_bytes = _end_tag_bytes(source, end)
        if not 0 < n_bytes <= end - start:
            break
        end -= n_bytes
    return end


def _end_tag_bytes(source: Source, end: int) -> int:
    if end >= _ID3V1_BYTES and source.read_at(end - _ID3V1_BYTES, 3) == b"TAG":
        return _ID3V1_BYTES
    footer = source.read_at(max(0, end - _APE_FOOTER_BYTES), _APE_FOOTER_BYTES)
    if footer.startswith(b"APETAGEX"):
        has_header = footer[23] & 0x80
        return int.from_bytes(footer[12:16], "little") + (_APE_FOOTER_BYTES if has_header else 0)
    if footer.endswith(b"LYRICS200") and footer[-15:-9].isdigit():
        return int(footer[-15:-9]) + 15
    return 0


def settle_tail(source: Source, data: range, outer_end: int | None, warnings: Counter[str]) -> range:
    """The sound, given the data chunk that comes last and is followed by no other chunk.

    What follows belongs to it where the outer size says so (None: it was never written), is passed over where it is
    little or another file, and else makes the length unclear: then DecodeRejected is raised.
    """
    n_unknown = tail_bytes(source, data.stop)
    if n_unknown < _MIN_TAIL_BYTES:
        return data
    head = source.read_at(data.stop, 1024)
    another = is_other_file(head) or begins_as(head) is not None
    if not another and (outer_end is None or outer_end >= end_without_tags(source, data.stop) - 1):
        warnings["declared_length_differs"] = 1
        return range(data.start, data.stop + n_unknown)
    if not another and n_unknown > min(_MAX_UNKNOWN_BYTES, len(data) * _MAX_UNKNOWN_SHARE):
        raise DecodeRejected("unclear_length")
    warnings["trailing_data_ignored"] = n_unknown
    return data
