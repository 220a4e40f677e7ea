"""The scan of each container."""

from collections.abc import Callable

from model.audio.byte_ranges import Source
from model.audio.containers import Container
from model.audio.scan import aiff, au, caf, flac, matroska, mp4, mpeg, ogg, ts, wav
from model.audio.scan.layout import Layout

_SCANS: dict[str, Callable[[Source, int], Layout]] = {
    "wav": wav.scan,
    "w64": wav.scan,
    "flac": flac.scan,
    "mp3": mpeg.scan_mp3,
    "aac": mpeg.scan_adts,
    "ogg": ogg.scan,
    "mp4": mp4.scan,
    "webm": matroska.scan,
    "aiff": aiff.scan,
    "caf": caf.scan,
    "au": au.scan,
    "ts": ts.scan,
}


def scan(source: Source, container: Container, start: int) -> Layout:
    """Scan a file whose container begins at a place.

    Raises DecodeRejected where the file's own bytes prove that audio is missing, or where there is none.
    """
    return _SCANS[container.name](source, start)
