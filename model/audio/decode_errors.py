"""Why a track cannot be decoded: one table from a short reason to its error class and its sentence.

The decoding child answers with the reason alone. So a child that hostile bytes have taken over can choose among these
sentences, and cannot write its own into a client's answer. Standard library only.
"""

from dataclasses import asdict

from model.domain import (
    AudioError,
    AudioLimits,
    AudioNoStream,
    AudioSilent,
    AudioTooLong,
    AudioTooShort,
    AudioUndecodable,
    UnsupportedMediaType,
)

DECODE_ERRORS: dict[str, tuple[type[AudioError], str]] = {
    "container": (UnsupportedMediaType, "The first bytes belong to no audio container that is taken."),
    "codec": (UnsupportedMediaType, "The audio in this container is in a codec that is not taken."),
    "no_stream": (AudioNoStream, "The container holds no audio stream."),
    "sample_rate": (
        AudioUndecodable,
        "The sample rate must lie between {min_sample_rate_hz} and {max_sample_rate_hz} Hz.",
    ),
    "channels": (AudioUndecodable, "The track must have between 1 and {max_channels} channels."),
    "changes": (AudioUndecodable, "The sample rate or the number of channels changes in the middle of the track."),
    "broken": (AudioUndecodable, "The audio data is broken."),
    "damaged": (AudioUndecodable, "Too much of the audio data does not decode: more than 5 % of its packets."),
    "truncated": (AudioUndecodable, "The audio ends before the length that the file declares."),
    "unclear_length": (
        AudioUndecodable,
        "The file goes on far behind the length that it declares, and it is unclear whether that is audio.",
    ),
    "not_finite": (AudioUndecodable, "The track holds samples that are not finite numbers, or are absurdly large."),
    "too_short": (AudioTooShort, "The track is shorter than {min_duration_s:g} s."),
    "too_long": (AudioTooLong, "The track is longer than {max_duration_s:g} s."),
    "silent": (AudioSilent, "Every sample of the track has the same value."),
    "cancelled": (AudioSilent, "The channels cancel one another: their mean, which would be scored, is silent."),
    "memory": (AudioUndecodable, "Decoding the track needs more memory than it may have."),
    "time": (AudioUndecodable, "Decoding the track takes longer than it may."),
    "crash": (AudioUndecodable, "The decoder crashed on this track."),
}


class DecodeRejected(Exception):
    """Raised in the decoding child: the track cannot be decoded, for one of the reasons in `DECODE_ERRORS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_error(reason: str, limits: AudioLimits) -> AudioError:
    """The error that a reason stands for, its sentence filled in with the limits."""
    error, sentence = DECODE_ERRORS[reason]
    return error(sentence.format(**asdict(limits)))
