"""A slice of `make catalogue`: two kills."""

import random
from pathlib import Path

import pytest

from tests.catalogue.kills import campaign


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_a_catalogue_is_scored_to_the_same_bytes_whatever_is_killed(tmp_path: Path) -> None:
    killed = campaign(tmp_path, n_kills=2, n_tracks=24, seed=random.randrange(10_000))
    assert killed.total() == 2
