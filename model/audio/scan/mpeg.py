"""MP3 and ADTS: frames that carry their own start mark, with tags, and sometimes junk, between them."""

import re
from collections import Counter
from collections.abc import Iterator

from model.audio.byte_ranges import Part, Source
from model.audio.containers import skip_tags
from model.audio.decode_errors import DecodeRejected
from model.audio.mpeg_frames import FRAME_BYTES, HEADER_BYTES, START_MARK, frame_starts, starts_frames
from model.audio.scan.layout import Layout, end_without_tags

#: As much as is searched for the next frame at a time, and what is read behind it to see that others follow.
_SEARCH_BYTES = 64 * 1024
_FOLLOWING_BYTES = 24 * 1024
#: Where an encoder left the number of frames in the first one: behind one mark if a flag says so, some way behind the
#: other.
_DECLARED = re.compile(rb"(?:Xing|Info)...(?P<flags>.)(?P<xing>.{4})|VBRI.{10}(?P<vbri>.{4})", re.S)
_MARKS = (b"Xing", b"Info", b"VBRI")
_FRAMES_FLAG = 1
_MARK_WITHIN_BYTES = 64
#: A count of frames may leave out the first one, which holds the count, or the last.
_COUNT_TOLERANCE = 1


def scan_mp3(source: Source, start: int) -> Layout:
    """Find the frames of an MP3. Raises DecodeRejected where the last is cut in two and the first declares more."""
    walk = _FrameWalk(source, "mp3", start)
    layout = walk.layout()
    _compare_with_declared(source.read_at(start, 4096), walk)
    return layout


def scan_adts(source: Source, start: int) -> Layout:
    """Find the frames of ADTS, which declares no length."""
    return _FrameWalk(source, "aac", start).layout()


class _FrameWalk:
    """A walk over all frames of a file, which counts them and what lies between them."""

    def __init__(self, source: Source, kind: str, start: int) -> None:
        self._source, self._kind, self._start = source, kind, start
        self._end = end_without_tags(source, start)
        self.n_frames = self.n_headers = 0
        self.is_cut = False
        self.warnings = Counter[str]()

    def layout(self) -> Layout:
        """The frames as parts. Raises DecodeRejected where there is none."""
        parts: list[Part] = list(self._runs())
        if not parts:
            raise DecodeRejected("broken")
        return Layout(parts, self.warnings)

    def _runs(self) -> Iterator[range]:
        """Ranges of frames that follow one another."""
        at = self._start
        while at >= 0:
            stop = self._run_end(at)
            if stop > at:
                yield range(at, stop)
            behind_tags = skip_tags(self._source.read_at, stop)
            at = self._next_frame(behind_tags)
            if at > behind_tags:
                self.warnings["packets_skipped"] += max(1, (at - behind_tags) // self._frame_bytes(at))
        if behind_tags < self._end:
            self.is_cut = self._frame_bytes(behind_tags) > self._end - behind_tags
            self.warnings["trailing_data_ignored"] = self._end - behind_tags

    def _frame_bytes(self, at: int) -> int:
        return FRAME_BYTES[self._kind](self._source.read_at(at, HEADER_BYTES))

    def _run_end(self, at: int) -> int:
        n_bytes = _SEARCH_BYTES
        while n_bytes >= _SEARCH_BYTES:
            window = self._source.read_at(at, _SEARCH_BYTES + _MARK_WITHIN_BYTES)
            *starts, n_bytes = frame_starts(self._kind, window, _SEARCH_BYTES, self._end - at)
            self.n_frames += len(starts)
            self.n_headers += _n_marked([window[start : start + _MARK_WITHIN_BYTES] for start in starts])
            at += n_bytes
        return at

    def _next_frame(self, at: int) -> int:
        """Where frames go on: at a place or behind junk, where three follow one another; -1 where they do not."""
        for window_at in range(at, self._end, _SEARCH_BYTES):
            read = self._source.read_at(window_at, _SEARCH_BYTES + _FOLLOWING_BYTES)
            window = memoryview(read)[: self._end - window_at]  # not copied for each mark
            for mark in START_MARK.finditer(window, 0, _SEARCH_BYTES + 1):
                frames = window[mark.start() : mark.start() + _FOLLOWING_BYTES]
                if starts_frames(self._kind, frames, n_frames=3) and FRAME_BYTES[self._kind](frames) <= len(frames):
                    return window_at + mark.start()
        return -1


def _n_marked(heads: list[bytes]) -> int:
    """How many hold a mark. Mostly none does, so that all are searched at once."""
    joined = b"".join(heads)
    if not any(mark in joined for mark in _MARKS):
        return 0
    return sum(any(mark in head for mark in _MARKS) for head in heads)


def _compare_with_declared(head: bytes, walk: _FrameWalk) -> None:
    if walk.n_headers > 1:
        walk.warnings["joined_streams"] = walk.n_headers
    found = _DECLARED.search(head[: FRAME_BYTES["mp3"](head)])
    if not found or (found["xing"] and not found["flags"][0] & _FRAMES_FLAG):
        return
    declared = int.from_bytes(found["xing"] or found["vbri"], "big")
    # Junk may stand between frames or in the place of some.
    most_missing = declared - (walk.n_frames - 1)
    least_missing = most_missing - walk.warnings["packets_skipped"]
    if walk.is_cut and least_missing > 1 + _COUNT_TOLERANCE:
        raise DecodeRejected("truncated")
    if declared and walk.n_headers < 2 and not least_missing - 1 <= _COUNT_TOLERANCE - 1 <= most_missing + 1:
        walk.warnings["declared_length_differs"] = 1
