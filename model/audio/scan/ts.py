"""MPEG-TS: packets of 188 bytes, of which those that describe the service stay out.

FFmpeg would load a module of the C library for the character sets of a service's name.
"""

from model.audio.byte_ranges import Part, Source
from model.audio.scan.layout import Layout

_PACKET_BYTES = 188
_SYNC = 0x47
_SERVICE_DESCRIPTION = 0x11
_PACKETS_AT_ONCE = 4096


def scan(source: Source, start: int) -> Layout:
    """Find the packets of an MPEG-TS that are not about its service. It declares no length."""
    parts, kept_from = list[Part](), start
    for at in range(start, source.n_bytes, _PACKETS_AT_ONCE * _PACKET_BYTES):
        block = source.read_at(at, _PACKETS_AT_ONCE * _PACKET_BYTES)
        heads = zip(block[::_PACKET_BYTES], block[1::_PACKET_BYTES], block[2::_PACKET_BYTES], strict=False)
        for index, (sync, high, low) in enumerate(heads):
            if sync == _SYNC and (high & 0x1F) << 8 | low == _SERVICE_DESCRIPTION:
                packet_at = at + index * _PACKET_BYTES
                parts.append(range(kept_from, packet_at))
                kept_from = packet_at + _PACKET_BYTES
    return Layout([*parts, range(kept_from, source.n_bytes)])
