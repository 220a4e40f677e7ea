"""Resampling to 24 kHz in blocks of any length, with the samples that torchaudio gives for the whole signal.

NumPy only. Kept by hand because torchaudio's own needs the whole signal in memory, and torch in the decoding child.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from model.audio.pcm import Samples
from model.domain import SAMPLE_RATE_HZ

LOWPASS_FILTER_WIDTH = 6  # zero crossings of the sinc on each side
ROLLOFF = 0.99  # cut-off as a part of the lower Nyquist frequency

#: Output phases computed by one matrix product: all 80 of 44.1 kHz. Rates that share no divisor with 24 kHz have up to
#: 24,000 phases, whose taps in one matrix would take up to 18 GB; in groups of this size they take 71 MB.
_PHASES_AT_ONCE = 80
#: Bounds the copy of overlapping windows that a product needs: 4 MB, whatever the size of a push.
_WINDOW_ELEMENTS_AT_ONCE = 1 << 20
#: The length rule rounds to float32. For a day of audio that takes back at most this many output samples.
_LENGTH_ROUNDING_SAMPLES = 64


@dataclass(frozen=True)
class _PhaseGroup:
    """The filter taps of consecutive output phases, cut to the samples that any of them reaches."""

    first_phase: int
    first_tap: int
    taps: Samples  # (n_taps, n_phases)


class Resampler:
    """Streaming resampler with the filter and the length rule of `torchaudio.functional.resample` at its defaults.

    What `push` and `flush` return, joined, is what torchaudio gives for the whole signal, however it was cut. Holds a
    few filter lengths of samples between pushes, never the signal. One signal only: after `flush` it is spent.
    """

    def __init__(self, source_rate_hz: int, target_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        divisor = math.gcd(source_rate_hz, target_rate_hz)
        self._old, self._new = source_rate_hz // divisor, target_rate_hz // divisor
        self._width = math.ceil(LOWPASS_FILTER_WIDTH * self._old / (min(self._old, self._new) * ROLLOFF))
        self._held_back = math.ceil(_LENGTH_ROUNDING_SAMPLES * self._old / self._new)
        self._passes_through = self._old == self._new
        self._groups = [] if self._passes_through else list(_phase_groups(self._old, self._new, self._width))
        self._pending = np.zeros(self._width, np.float32)
        self._n_received = 0
        self._n_emitted = 0

    def push(self, samples: Samples) -> Samples:
        """Takes the next samples, float32 of any length, and returns the output that is certain by now."""
        if self._passes_through:
            return samples
        self._n_received += len(samples)
        self._pending = np.concatenate([self._pending, samples])
        return self._filter(len(self._pending) - self._held_back)

    def flush(self) -> Samples:
        """Returns the rest of the output: the tail that reaches beyond the last sample."""
        if self._passes_through:
            return np.empty(0, np.float32)
        n_wanted = resampled_length(self._n_received, self._old, self._new) - self._n_emitted
        self._pending = np.concatenate([self._pending, np.zeros(self._width + self._old, np.float32)])
        return self._filter(len(self._pending))[:n_wanted]

    def _filter(self, n_usable: int) -> Samples:
        """Consumes every whole window of the first n_usable pending samples; each gives one sample of every phase."""
        n_windows = max(0, (n_usable - 2 * self._width) // self._old)
        output = np.empty((n_windows, self._new), np.float32)
        for group in self._groups if n_windows else ():
            n_taps, n_phases = group.taps.shape
            windows = sliding_window_view(self._pending[group.first_tap :], n_taps)[:: self._old]
            step = max(1, _WINDOW_ELEMENTS_AT_ONCE // n_taps)
            for start in range(0, n_windows, step):
                stop = min(start + step, n_windows)
                # Overlapping rows would send NumPy to a slow loop; BLAS wants them copied.
                product = np.ascontiguousarray(windows[start:stop]) @ group.taps
                output[start:stop, group.first_phase : group.first_phase + n_phases] = product
        self._pending = self._pending[n_windows * self._old :]
        self._n_emitted += output.size
        return output.reshape(-1)


def resample(signal: Samples, source_rate_hz: int, target_rate_hz: int = SAMPLE_RATE_HZ) -> Samples:
    """A whole signal through a `Resampler`; float32, shape = (n_samples,)."""
    resampler = Resampler(source_rate_hz, target_rate_hz)
    return np.concatenate([resampler.push(signal), resampler.flush()])


def resampled_length(n_samples: int, source_rate_hz: int, target_rate_hz: int = SAMPLE_RATE_HZ) -> int:
    """Samples that `Resampler` makes of n_samples.

    torchaudio rounds the exact quotient to float32 before it rounds up: 2,667,339 samples at 44.1 kHz give 1,451,613,
    one fewer than arithmetic has it. It never gives more than the filter has computed.
    """
    divisor = math.gcd(source_rate_hz, target_rate_hz)
    old, new = source_rate_hz // divisor, target_rate_hz // divisor
    return min(math.ceil(np.float32(new * n_samples / old)), (n_samples // old + 1) * new)


def _phase_groups(old: int, new: int, width: int) -> Iterator[_PhaseGroup]:
    for first_phase in range(0, new, _PHASES_AT_ONCE):
        phases = np.arange(first_phase, min(first_phase + _PHASES_AT_ONCE, new))
        first_tap = first_phase * old // new
        end_tap = min(int(phases[-1]) * old // new + 2, old) + 2 * width
        yield _PhaseGroup(first_phase, first_tap, _taps(phases, np.arange(first_tap, end_tap), old, new, width))


def _taps(phases: NDArray[np.int_], taps: NDArray[np.int_], old: int, new: int, width: int) -> Samples:
    """Windowed sinc, shape = (n_taps, n_phases).

    Every step is in float32, like torchaudio's for a float32 signal: with 24,000 phases the rounding is audible to a
    comparison (60 dB below the signal), with the usual rates it is not.
    """
    base = min(old, new) * ROLLOFF
    position = (taps - width).astype(np.float32) / np.float32(old)
    phase = -phases.astype(np.float32) / np.float32(new)
    t = np.clip((phase + position[:, None]) * np.float32(base), -LOWPASS_FILTER_WIDTH, LOWPASS_FILTER_WIDTH)
    window = np.cos(t * np.float32(math.pi) / np.float32(LOWPASS_FILTER_WIDTH) / np.float32(2)) ** 2
    angle = t * np.float32(math.pi)
    sinc = np.divide(np.sin(angle), angle, out=np.ones_like(angle), where=angle != 0)
    filtered: Samples = sinc * (window * np.float32(base / old))
    return filtered
