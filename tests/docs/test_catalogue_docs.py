"""docs/catalogue.md says what works: every command in it is run, on sixty tracks made on the spot."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.catalogue.made_up import make
from model.domain import SCORE_RANGES
from tests.docs.test_training_docs import ROOT, commands, execute

PAGE = (ROOT / "docs/catalogue.md").read_text()


def rows(out: Path) -> list[dict[str, object]]:
    return [row for path in sorted(out.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_documented_commands_score_a_catalogue(tmp_path: Path) -> None:
    make(tmp_path, 60)
    for line in commands(PAGE):
        execute(line, tmp_path)
    scored, more = rows(tmp_path / "scores"), rows(tmp_path / "more")
    assert (len(scored), len(more)) == (60, 61)
    assert [(row["id"], row["code"]) for row in more if row["code"]] == [("lost", "file_unreadable")]
    assert {name for name in more[0] if f"`{name}`" not in PAGE} == SCORE_RANGES.keys() - {"score_streams"}
    again = {row["id"]: {name: row[name] for name in scored[0]} for row in more}
    assert {row["id"]: row for row in scored} == {key: row for key, row in again.items() if key != "lost"}
