"""What the whole project shares: score names and ranges, limits and facts of audio, and the errors.

Standard library only, so that the HTTP front end can import it without a numeric package.
"""

from dataclasses import dataclass
from typing import ClassVar

SAMPLE_RATE_HZ = 24_000
#: Of one sample as it is decoded: float32.
SAMPLE_BYTES = 4
SEGMENT_S = 30
SEGMENT_SAMPLES = SAMPLE_RATE_HZ * SEGMENT_S

#: Names every scoring rule that changes the numbers: mono mean, resampler, segment length, normalisation.
PREPROCESSING = "mono-24k-30s-v1"

POPULARITY_RANGE = (0.0, 100.0)
AESTHETIC_RANGE = (1.0, 5.0)

#: Every score that APEX can give, in the reference's order, with its bounds.
SCORE_RANGES: dict[str, tuple[float, float]] = {
    "score_streams": POPULARITY_RANGE,
    "score_likes": POPULARITY_RANGE,
    "coherence": AESTHETIC_RANGE,
    "musicality": AESTHETIC_RANGE,
    "memorability": AESTHETIC_RANGE,
    "clarity": AESTHETIC_RANGE,
    "naturalness": AESTHETIC_RANGE,
}

#: How far another precision, device or decoder may move each score of one model version. Far below the model's own
#: error (20 points or more, root mean square, on popularity): a smaller difference between two tracks means nothing.
SCORE_TOLERANCES: dict[str, float] = {
    name: 0.2 if bounds == POPULARITY_RANGE else 0.01 for name, bounds in SCORE_RANGES.items()
}

#: The scores of each task that a head can be trained for.
TASK_SCORES: dict[str, tuple[str, ...]] = {
    "popularity": ("score_streams", "score_likes"),
    "full": tuple(SCORE_RANGES),
}


@dataclass(frozen=True)
class AudioLimits:
    """The limits on a track. Durations are counted in decoded samples, never read from a header."""

    min_duration_s: float = 1.0
    max_duration_s: float = 900.0
    min_sample_rate_hz: int = 8_000
    max_sample_rate_hz: int = 192_000
    max_channels: int = 24

    @property
    def max_pcm_bytes(self) -> int:
        """What the samples of the longest track fit in: mono, at 24 kHz."""
        return int((self.max_duration_s + 1) * SAMPLE_RATE_HZ * SAMPLE_BYTES)


@dataclass(frozen=True)
class AudioFacts:
    """Properties of a track that decoding found."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    duration_s: float
    #: "ffmpeg", or "libsndfile" where FFmpeg could not open the file.
    decoder: str = "ffmpeg"


@dataclass(frozen=True)
class AudioWarning:
    """Something odd about a track that was scored all the same: a stable code and a sentence."""

    code: str
    detail: str


class ApexError(Exception):
    """Base of every error that the library raises on purpose; its text is safe to show to a client."""


class AudioError(ApexError):
    """The track cannot be scored, and trying again will not help."""

    code: ClassVar[str] = "audio_undecodable"


class AudioUndecodable(AudioError):
    """The container or the codec data is broken, or decoding it crashed or outran its limits."""


class AudioTooShort(AudioError):
    """Fewer decoded seconds than the limits ask for."""

    code = "audio_too_short"


class AudioTooLong(AudioError):
    """More decoded seconds than the limits allow."""

    code = "audio_too_long"


class AudioSilent(AudioError):
    """Every sample has the same value: normalised, it would be scored as if it were music."""

    code = "audio_silent"


class AudioNoStream(AudioError):
    """The container holds no audio stream."""

    code = "audio_no_stream"


class UnsupportedMediaType(AudioError):
    """The bytes are in no container, or no codec, that this service takes."""

    code = "unsupported_media_type"


class WeightsError(ApexError):
    """The weights directory is not what it claims to be; the text names the file and the tensor."""


class DeviceError(ApexError):
    """The device that was asked for does not exist on this machine, or at all."""


class PrecisionUnavailable(ApexError):
    """The engine or the device cannot compute in the precision that was asked for."""


class DeviceOutOfMemory(ApexError):
    """The device has too little free memory for a single segment. Trying again later may succeed."""

    code: ClassVar[str] = "gpu_out_of_memory"


class DeviceLost(ApexError):
    """The device failed, and this process cannot use it any more. Another process can."""


class ModelOutputInvalid(ApexError):
    """The model gave NaN or an infinity: a fault of the weights or the device, not of the track."""

    code: ClassVar[str] = "model_output_invalid"
