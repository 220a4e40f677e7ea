"""Which segments are computed together, and how much of each.

Compilers and CUDA graphs want few shapes, so a segment's sound is rounded up to one of a few lengths: more of its
padding is computed than is needed, which changes nothing. Knows nothing of networks and devices.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.audio.pcm import Samples
from model.domain import SAMPLE_RATE_HZ, SEGMENT_S, SEGMENT_SAMPLES

#: The lengths, in seconds. Between the last two padding saves nothing.
LENGTHS_S = (0.25, 2, 5, 10, 15, 20, 25, SEGMENT_S)
LENGTHS = tuple(int(length_s * SAMPLE_RATE_HZ) for length_s in LENGTHS_S)
#: What a forward pass costs besides its segments, in full segments.
PASS_COST = 0.25


def length_for(n_samples: int) -> int:
    """The length, of the few, at which a segment of so many samples is computed."""
    return LENGTHS[bisect_left(LENGTHS, n_samples)]


def cost_of(length: int) -> float:
    """What a segment of this length costs, in full ones: filters, then products and attention of the frames."""
    sound = length / SEGMENT_SAMPLES
    frames = min(sound + 0.06, 1)
    return 0.27 * sound + 0.50 * frames + 0.23 * frames**2


def batches(n_samples: Mapping[int, int], sizes: Iterable[int]) -> list[list[int]]:
    """Segments, given as numbers with how many samples each has, cut into batches of these sizes at the least cost.

    A batch is as long as its longest segment, so that only neighbours in the order of their lengths share one.
    sizes : what a batch may hold; with one among them
    """
    order = sorted(n_samples, key=lambda number: -n_samples[number])
    sizes = sorted(sizes, reverse=True)
    plans = [(0.0, 0)]  # of the last segments, by their number: the least cost, and the size of the first batch
    for n_last in range(1, len(order) + 1):
        longest = cost_of(length_for(n_samples[order[-n_last]]))
        options = [(plans[n_last - size][0] + PASS_COST + size * longest, size) for size in sizes if size <= n_last]
        plans.append(min(options, key=lambda option: (round(option[0], 6), -option[1])))  # of equals the larger first
    found = list[list[int]]()
    while order:
        size = plans[len(order)][1]
        found.append(order[:size])
        order = order[size:]
    return found


def stacked(segments: Sequence[Samples]) -> NDArray[np.float32]:
    """Segments of any lengths as one array, at the length of the longest, with zeros after each."""
    batch = np.zeros((len(segments), length_for(max(map(len, segments)))), np.float32)
    for row, segment in zip(batch, segments, strict=True):
        row[: len(segment)] = segment
    return batch
