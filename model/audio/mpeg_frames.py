"""Frame headers of MPEG audio layer III and of ADTS: whether one is valid, and how long its frame is.

Sources: ISO/IEC 11172-3 and 13818-3 (headers, bit rates), ISO/IEC 13818-7 (ADTS). Standard library only.
"""

import re
from collections.abc import Callable
from functools import cache

Bytes = bytes | memoryview

HEADER_BYTES = 7
#: What a header of either begins with.
START_MARK = re.compile(rb"\xff(?:[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]|[\xf0\xf1\xf8\xf9])", re.S)
#: kbit/s of layer III by its index, for MPEG 1 and for MPEG 2 and 2.5.
_KBITS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
#: Hz by its index, and how the two version bits divide them: 2.5, none, 2, 1.
_RATES_HZ = (44_100, 48_000, 32_000)
_RATE_DIVISORS = (4, 0, 2, 1)


def mp3_frame_bytes(head: Bytes) -> int:
    """Length of the layer III frame that begins with these bytes; 0 where none does, or one of free format."""
    return _mp3_frame_bytes(head[1], head[2]) if len(head) >= 4 and head[0] == 0xFF else 0


@cache  # a walk over a file asks for the same few thousands of times
def _mp3_frame_bytes(version_and_layer: int, rates: int) -> int:
    if version_and_layer & 0xE6 != 0xE2:
        return 0
    divisor, bit_rate, sample_rate = _RATE_DIVISORS[version_and_layer >> 3 & 3], rates >> 4, rates >> 2 & 3
    if not divisor or bit_rate in (0, 15) or sample_rate == 3:
        return 0
    kbits = _KBITS[1 if divisor == 1 else 2][bit_rate]
    slots = 144_000 if divisor == 1 else 72_000
    return slots * kbits * divisor // _RATES_HZ[sample_rate] + (rates >> 1 & 1)


def mp3_frame_samples(head: Bytes) -> int:
    """Samples per channel of the layer III frame whose header this is."""
    return 1152 if head[1] >> 3 & 3 == 3 else 576


def mp3_sample_rate_hz(head: Bytes) -> int:
    """Sample rate of the layer III frame whose valid header this is."""
    return _RATES_HZ[head[2] >> 2 & 3] // _RATE_DIVISORS[head[1] >> 3 & 3]


def adts_frame_bytes(head: Bytes) -> int:
    """Length of the ADTS frame that begins with these bytes; 0 where none does (layer bits, sample rate, length)."""
    if len(head) < HEADER_BYTES or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 >= 13:
        return 0
    n_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return n_bytes if n_bytes > HEADER_BYTES else 0


FRAME_BYTES: dict[str, Callable[[Bytes], int]] = {"mp3": mp3_frame_bytes, "aac": adts_frame_bytes}


def frame_starts(kind: str, data: Bytes, stop: int, end: int) -> list[int]:
    """Where the frames begin that follow one another from the start of the data, and where the last of them ends.

    No frame begins at ``stop`` or behind it, and none reaches beyond ``end``.
    """
    frame_bytes, starts, at = FRAME_BYTES[kind], [0], 0
    while at < stop and (n_bytes := frame_bytes(data[at : at + HEADER_BYTES])) and at + n_bytes <= end:
        at += n_bytes
        starts.append(at)
    return starts


def starts_frames(kind: str, data: Bytes, *, n_frames: int = 1) -> bool:
    """Whether so many frames of a kind follow one another from the start of the data, or up to its end.

    Of several, at least two must be seen: a header alone is found in random bytes every few kilobytes.
    """
    at = 0
    for index in range(n_frames):
        n_bytes = FRAME_BYTES[kind](data[at : at + HEADER_BYTES])
        if not n_bytes:
            return index > 1 and at >= len(data) - HEADER_BYTES
        at += n_bytes
    return True
