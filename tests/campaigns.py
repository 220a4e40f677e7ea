"""What the long campaigns (chaos, many hosts, attack) have in common: a table of runs, and how they end."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.table import Table


class CampaignReport(Protocol):
    """What a run of a campaign found."""

    @property
    def plan(self) -> Any:
        """What was done; its `seed` names the run."""

    @property
    def holds(self) -> bool: ...

    def json(self) -> object: ...


AnyReport = TypeVar("AnyReport", bound=CampaignReport)


def side_by_side(title: str, reports: Sequence[AnyReport], row: Callable[[AnyReport], dict[str, object]]) -> Table:
    """A column for each run, with the lines that `row` has of it."""
    found = Table("", title=title)
    rows = [row(report) for report in reports]
    for report in reports:
        found.add_column(f"seed {report.plan.seed}", justify="right")
    for name in rows[0]:
        found.add_row(name, *(str(each[name]) for each in rows))
    return found


def end(reports: Sequence[CampaignReport], output: Path | None) -> None:
    """Write the reports as JSON, and end this process: with status 0 if all of them hold."""
    if output:
        output.write_text(json.dumps([report.json() for report in reports], indent=2, default=str))
    sys.exit(0 if all(report.holds for report in reports) else 1)
