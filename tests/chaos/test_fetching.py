"""A slice of `make fetches`: two fetchers, one killed, and sources that stall, cut and lie."""

from pathlib import Path

from tests.chaos import fetching


def test_every_url_comes_to_its_end_though_fetchers_are_killed(tmp_path: Path) -> None:
    outcome = fetching.run(tmp_path, n_jobs=40, n_kills=2, seed=7)
    assert outcome.ends.total() == 40
    assert outcome.ends["queued"] > 10
