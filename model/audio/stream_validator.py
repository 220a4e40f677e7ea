"""What every decoded track must keep to, whichever decoder it comes from: limits, one shape, finite and audible."""

import math
from collections.abc import Sequence

import numpy as np

from model.audio.decode_errors import DecodeRejected
from model.audio.pcm import Samples
from model.domain import AudioLimits

#: Far above anything that a file of integers can hold, far below what would overflow in the network.
MAX_AMPLITUDE = 2.0**31
#: Channels cancel one another where their mean stays below this share of them (-60 dB), a lossy codec's rounding, or
#: within a step of 16 bits and 20 dB below them.
_CANCELLED_SHARE = 1e-3
_ROUNDING, _ROUNDING_SHARE = 2.0**-15, 0.1
#: A mean above this is heard, however loud the channels are: full scale is 1.
_QUIET = 1e-2


class StreamValidator:
    """Counts what passes, holds it to the limits and to one shape, and keeps its lowest and highest sample."""

    def __init__(self, limits: AudioLimits) -> None:
        self._limits = limits
        self.sample_rate_hz = 0
        self.channels = 0
        self.n_frames = 0
        self._lowest, self._highest = math.inf, -math.inf
        self._channel_peak = 0.0

    def expect(self, sample_rate_hz: int, channels: int) -> None:
        """Take what a header or the first samples say for the shape of the track, where the limits allow it."""
        if not self._limits.min_sample_rate_hz <= sample_rate_hz <= self._limits.max_sample_rate_hz:
            raise DecodeRejected("sample_rate")
        if not 1 <= channels <= self._limits.max_channels:
            raise DecodeRejected("channels")
        self.sample_rate_hz, self.channels = sample_rate_hz, channels

    def admit(self, n_frames: int, sample_rate_hz: int, channels: int) -> None:
        """Count decoded samples per channel, or refuse the track because of them, before any of them is looked at."""
        if not self.n_frames:
            self.expect(sample_rate_hz, channels)  # HE-AAC plays at twice the rate that its header may say
        if (sample_rate_hz, channels) != (self.sample_rate_hz, self.channels):
            raise DecodeRejected("changes")
        self.n_frames += n_frames
        if self.n_frames > self._limits.max_duration_s * self.sample_rate_hz:
            raise DecodeRejected("too_long")

    def measure(self, mean: Samples, channels: Sequence[Samples]) -> None:
        """Look at a block: the mean of its channels, and the channels where the mean alone does not tell."""
        lowest, highest = float(mean.min()), float(mean.max())
        if not (lowest >= -MAX_AMPLITUDE and highest <= MAX_AMPLITUDE):  # so written, it catches NaN
            raise DecodeRejected("not_finite")
        self._lowest, self._highest = min(lowest, self._lowest), max(highest, self._highest)
        if len(channels) > 1 and max(-self._lowest, self._highest) < _QUIET:
            self._channel_peak = max(self._channel_peak, *(float(np.abs(channel).max()) for channel in channels))

    def conclude(self) -> None:
        """Refuse the whole track where it is too short, constant, or cancelled out."""
        if self.n_frames < max(1, self._limits.min_duration_s * self.sample_rate_hz):
            raise DecodeRejected("too_short")
        peak = max(-self._lowest, self._highest)
        rounding = min(_ROUNDING, self._channel_peak * _ROUNDING_SHARE)
        if peak < min(_QUIET, max(self._channel_peak * _CANCELLED_SHARE, rounding)):
            raise DecodeRejected("cancelled")
        if self._lowest == self._highest:
            raise DecodeRejected("silent")
