"""What is odd about a track that was scored all the same: one table from a stable code to its sentence.

The decoding child answers with codes and numbers alone, as with `model.audio.decode_errors`. Standard library only.
"""

from collections.abc import Mapping

from model.domain import SAMPLE_RATE_HZ, SEGMENT_S, SEGMENT_SAMPLES, AudioWarning

#: ``n`` is what the child counted.
DECODE_WARNINGS: dict[str, str] = {
    "declared_length_differs": "The length that the file's headers declare is not that of the audio in it.",
    "timestamp_gaps": "The timestamps leave {n} gap(s) or start late; the audio was scored without pauses there.",
    "other_streams_ignored": "{n} more audio stream(s) of the file were not scored.",
    "trailing_data_ignored": "{n} byte(s) behind the audio are neither audio nor a tag that is known.",
    "joined_streams": "The file is {n} recordings joined, scored as one.",
    "end_mark_missing": "The file lacks the mark of its end; it may have been cut off.",
    "packets_skipped": "{n} packet(s) did not decode and were left out.",
}
LAST_SEGMENT_SHORT = "last_segment_short"
#: A last segment shorter than this says little, and counts for as much as every other.
SHORT_SEGMENT_SAMPLES = SEGMENT_SAMPLES // 2
_MAX_COUNT = 1 << 62


def is_plausible(counts: object) -> bool:
    """Whether what a child says about a track are codes of the table with numbers."""
    return isinstance(counts, dict) and all(
        code in DECODE_WARNINGS and type(count) is int and 0 < count < _MAX_COUNT for code, count in counts.items()
    )


def decode_warnings(counts: Mapping[str, int], n_samples: int) -> tuple[AudioWarning, ...]:
    """The warnings about a track of so many samples at 24 kHz, in the table's order."""
    found = [
        AudioWarning(code, sentence.format(n=counts[code]))
        for code, sentence in DECODE_WARNINGS.items()
        if code in counts
    ]
    rest = n_samples % SEGMENT_SAMPLES
    if n_samples > SEGMENT_SAMPLES and 0 < rest < SHORT_SEGMENT_SAMPLES:
        detail = f"The last segment holds {rest / SAMPLE_RATE_HZ:.1f} s of {SEGMENT_S} s, the rest of it is silence."
        found.append(AudioWarning(LAST_SEGMENT_SHORT, detail))
    return tuple(found)
