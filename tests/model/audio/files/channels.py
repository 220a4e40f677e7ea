"""Files of many channels, and of layouts that FFmpeg calls custom."""

import io
import struct

import av

from tests.model import tracks
from tests.model.audio.files import ogg

LAYOUTS = {
    1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1", 16: "hexadecagonal",
    24: "22.2",
}  # fmt: skip
#: Core Audio's tags of layouts in an order of their own, by the number of channels; where they stand behind the name.
CUSTOM_TAGS = {3: 114 << 16 | 3, 6: 124 << 16 | 6}
#: In Opus's header: what its channels are.
_FAMILY_AT, _AMBISONIC = 18, 2
_TAG_BEHIND = {b"chan": 8, b"CHAN": 8}


#: Layouts for which FFmpeg's AAC encoder describes the channels itself, in a program config element.
PCE_LAYOUTS = {"2.1": 3, "3.1": 4, "hexagonal": 6, "6.1(front)": 7, "octagonal": 8}


def many_channels(
    muxer: str, codec: str, channels: int, duration_s: float = 1.5, *, layout: str | None = None
) -> bytes:
    """A file at 48 kHz of `tracks.music`, in the usual layout of so many channels or in another."""
    signal, layout = tracks.music(duration_s, 48_000, channels), layout or LAYOUTS[channels]
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as output:
        stream = output.add_stream(codec, rate=48_000, layout=layout)
        for frame in tracks.encoder_frames(stream, signal, layout, 48_000):
            output.mux(stream.encode(frame))
        output.mux([packet for packet in stream.encode(None) if packet.size])
    return file.getvalue()


def custom_layout(muxer: str, codec: str, channels: int, duration_s: float = 1.5) -> bytes:
    """The same, its channels in an order that is no usual one; MOV and AIFF can say so."""
    data = many_channels(muxer, codec, channels, duration_s)
    at = max(data.find(name) for name in _TAG_BEHIND)
    at += _TAG_BEHIND[data[at : at + 4]]
    return data[:at] + struct.pack(">I", CUSTOM_TAGS[channels]) + data[at + 4 :]


def custom_layout_in_mp4(channels: int, duration_s: float = 1.5) -> bytes:
    """An MP4 with a box `chan`, which QuickTime invented and players read."""
    return custom_layout("mov", "pcm_s16le", channels, duration_s).replace(b"ftypqt  ", b"ftypisom", 1)


def described_by_itself(muxer: str, layout: str, duration_s: float = 1.5) -> bytes:
    """AAC with a program config element in place of the number of a usual layout."""
    return many_channels(muxer, "aac", PCE_LAYOUTS[layout], duration_s, layout=layout)


def ambisonic(muxer: str, duration_s: float = 1.5) -> bytes:
    """Opus of four channels of a sound field and two beside it, an order that FFmpeg calls custom."""
    data = bytearray(many_channels(muxer, "libopus", 6, duration_s))
    data[data.index(b"OpusHead") + _FAMILY_AT] = _AMBISONIC
    return ogg.joined(ogg.pages(bytes(data))) if muxer == "ogg" else bytes(data)
