"""Files of many channels, and of layouts that FFmpeg calls custom."""

import io
import struct

import av

from tests.model import tracks

LAYOUTS = {
    1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1", 16: "hexadecagonal",
    24: "22.2",
}  # fmt: skip
#: Core Audio's tags of layouts in an order of their own, by the number of channels; where they stand behind the name.
CUSTOM_TAGS = {3: 114 << 16 | 3, 6: 124 << 16 | 6}
_TAG_BEHIND = {b"chan": 8, b"CHAN": 8}


def many_channels(muxer: str, codec: str, channels: int, duration_s: float = 1.5) -> bytes:
    """A file at 48 kHz of `tracks.music`."""
    signal = tracks.music(duration_s, 48_000, channels)
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as output:
        stream = output.add_stream(codec, rate=48_000, layout=LAYOUTS[channels])
        for frame in tracks.encoder_frames(stream, signal, LAYOUTS[channels], 48_000):
            output.mux(stream.encode(frame))
        output.mux([packet for packet in stream.encode(None) if packet.size])
    return file.getvalue()


def custom_layout(muxer: str, codec: str, channels: int, duration_s: float = 1.5) -> bytes:
    """The same, its channels in an order that is no usual one; MOV and AIFF can say so."""
    data = many_channels(muxer, codec, channels, duration_s)
    at = max(data.find(name) for name in _TAG_BEHIND)
    at += _TAG_BEHIND[data[at : at + 4]]
    return data[:at] + struct.pack(">I", CUSTOM_TAGS[channels]) + data[at + 4 :]
