"""The split of songs into train, val and test, with the songs of a group never in two of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.training.tables import DataError

SPLITS = ("train", "val", "test")
DEFAULT_FRACTIONS = (0.8, 0.1, 0.1)


def assign(
    groups: Sequence[str], strata: Sequence[str], fractions: Sequence[float] = DEFAULT_FRACTIONS, seed: int = 42
) -> NDArray[np.int64]:
    """The number of the split of each song; songs of one group share one, and each stratum is divided alike.

    groups, strata : one name a song; a group belongs to the stratum that most of its songs are in
    fractions      : the share of each split, whose sum is 1
    Raises DataError for other shares.
    """
    if min(fractions) < 0 or not np.isclose(sum(fractions), 1.0):
        raise DataError(f"the shares of the splits are not negative and add up to 1, unlike {tuple(fractions)}")
    split_of: dict[str, int] = {}
    rng = np.random.default_rng(seed)
    for sizes in _sizes_by_stratum(groups, strata):
        split_of |= _divide(sizes, np.asarray(fractions), rng)
    return np.array([split_of[group] for group in groups], np.int64)


def _sizes_by_stratum(groups: Sequence[str], strata: Sequence[str]) -> list[dict[str, int]]:
    """For each stratum, its groups and how many songs they have in all."""
    sizes = Counter(groups)
    strata_of: dict[str, Counter[str]] = {}
    for group, stratum in zip(groups, strata, strict=True):
        strata_of.setdefault(group, Counter())[stratum] += 1
    by_stratum: dict[str, dict[str, int]] = {stratum: {} for stratum in sorted(set(strata))}
    for group in sorted(strata_of):  # sorted, so that the order of the rows does not matter
        by_stratum[max(sorted(strata_of[group]), key=strata_of[group].__getitem__)][group] = sizes[group]
    return list(by_stratum.values())


def _divide(sizes: dict[str, int], fractions: NDArray[np.float64], rng: np.random.Generator) -> dict[str, int]:
    """Assign each group to the split that lacks most songs: large groups first, equal ones in random order."""
    names = rng.permutation(list(sizes)).tolist()
    lacking = fractions * sum(sizes.values())
    split_of = {}
    for name in sorted(names, key=sizes.__getitem__, reverse=True):
        split_of[name] = int(np.argmax(lacking))
        lacking[split_of[name]] -= sizes[name]
    return split_of
