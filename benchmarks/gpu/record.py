"""What the campaign has found so far, as JSON and Markdown."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.gpu.part import Kind, Report, Row
from benchmarks.gpu.tables import markdown

NOTES = (Kind.REHEARSED, Kind.FAILED, Kind.NO_DEVICE, Kind.NO_PACKAGE, Kind.NO_TIME)


@dataclass
class PartRecord:
    """A part: its rows, the tasks that gave none and why, and the seconds that it took."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: float = 0.0
    processor_s: float = 0.0

    def add(self, report: Report) -> None:
        kind, task, content = report
        if kind == Kind.SPENT:
            self.processor_s = float(str(content))
        elif isinstance(content, str):
            self.notes.setdefault(kind, {})[task] = content
        else:
            self.rows.append(content)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", *([markdown(self.rows)] if self.rows else [])]
        for kind in NOTES:
            if tasks := self.notes.get(kind):
                lines += [f"{kind.capitalize()}: {'; '.join(tasks)}.", ""]
        for task, trace in self.notes.get(Kind.FAILED, {}).items():
            lines += [f"`{task}`:", "", "```text", trace.strip(), "```", ""]
        return "\n".join([*lines, f"{self.seconds:.0f} s, {self.processor_s:.0f} s of processor.", ""])


@dataclass
class Record:
    """All parts, written to a folder after every report."""

    out: Path
    rehearsal: bool
    parts: dict[str, PartRecord] = field(default_factory=dict)

    def write(self) -> None:
        heading = (
            "# GPU campaign: a rehearsal on a CPU, whose figures mean nothing" if self.rehearsal else "# GPU campaign"
        )
        content = {name: asdict(part) for name, part in self.parts.items()}
        _replace(
            self.out / "campaign.json", json.dumps({"rehearsal": self.rehearsal, "parts": content}, indent=2) + "\n"
        )
        _replace(self.out / "campaign.md", "\n".join([heading, "", *(part.markdown() for part in self.parts.values())]))


def _replace(path: Path, content: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(content, "utf-8")
    os.replace(partial, path)
