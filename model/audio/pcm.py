"""Mono samples, segments of 30 s, and their normalisation. NumPy only.

Knows nothing of files and codecs (`model.audio.decoder`) and nothing of the network.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from model.domain import SEGMENT_SAMPLES, AudioUndecodable

Samples = NDArray[np.float32]

VARIANCE_FLOOR = 1e-7


def mono(channels: Samples | Sequence[Samples]) -> Samples:
    """Mean over the channels, without any change of loudness.

    channels : float32, shape = (n_frames,) each
    returns float32, shape = (n_frames,); of one channel that channel itself
    """
    if len(channels) == 1:
        return channels[0]
    if len(channels) == 2:
        return (channels[0] + channels[1]) * np.float32(0.5)  # the same value as mean(), in a twelfth of the time
    mean: Samples = np.mean(channels, axis=0)
    return mean


def segments(chunks: Iterable[Samples]) -> Iterator[Samples]:
    """Regroups samples at 24 kHz into consecutive segments of 30 s, of which the last may be shorter.

    The padding of the last is left to whoever knows what it costs. No samples, no segment.

    chunks : float32, any lengths
    yields float32, shape = (720000,) or less, each its own array
    """
    segment, n_filled = np.empty(SEGMENT_SAMPLES, np.float32), 0
    for chunk in chunks:
        n_taken = 0
        while n_taken < len(chunk):
            piece = chunk[n_taken : n_taken + SEGMENT_SAMPLES - n_filled]
            segment[n_filled : n_filled + len(piece)] = piece
            n_taken, n_filled = n_taken + len(piece), n_filled + len(piece)
            if n_filled == SEGMENT_SAMPLES:
                yield segment
                segment, n_filled = np.empty(SEGMENT_SAMPLES, np.float32), 0
    if n_filled:
        yield segment[:n_filled]


def normalise(samples: Samples, n_padding: int = 0) -> Samples:
    """Zero mean and unit variance over the samples and the padding, as `Wav2Vec2FeatureExtractor` does.

    Constant samples without padding become zeros.

    n_padding : zeros that follow the samples. The result then is what is above the normalised padding, so that this is
        zero again: the network's first norm removes any constant.
    Raises AudioUndecodable where a sample is not a number or is absurdly large, which only files with float samples can
    hold.
    """
    n_samples = len(samples) + n_padding
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = samples.mean(), samples.var()
        if n_padding:
            sound = len(samples) / n_samples
            variance, mean = sound * (variance + (1 - sound) * mean**2), np.float32(0)
        deviation = np.sqrt(variance + VARIANCE_FLOOR)
        if not np.isfinite(deviation):
            raise AudioUndecodable("the track holds samples that are not finite numbers")
        normalised: Samples = (samples - mean) / deviation
    return normalised
