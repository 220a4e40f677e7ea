"""What a service under attack logged: answers that are its own fault, and tracebacks."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Incidents:
    """Counts of what was logged, by their place in the code or the last line of the traceback."""

    internal_errors: Counter[str] = field(default_factory=Counter)
    tracebacks: Counter[str] = field(default_factory=Counter)


def size(log: Path) -> int:
    """Where the next line will begin."""
    return log.stat().st_size


def incidents(log: Path, *, start: int, damaged: str = "") -> Incidents:
    """What was logged from there on. Internal errors of the tenant whose records are damaged do not count."""
    found = Incidents()
    for line in _lines(log, start):
        if line.get("status") == 500 and not (damaged and line.get("tenant") == damaged):
            found.internal_errors[f"{line.get('method')} {line.get('route')}"] += 1
        if line.get("message") == "unexpected error" or "exception" in line:
            last = str(line.get("exception", "")).strip().splitlines()[-1:] or [str(line["message"])]
            found.tracebacks[f"{line.get('logger')}: {last[0][:160]}"] += 1
    return found


def _lines(log: Path, start: int) -> Iterator[dict[str, object]]:
    with log.open("rb") as file:
        file.seek(start)
        for line in file:
            if b'"status": 500' in line or b'"exception"' in line:
                try:
                    yield json.loads(line)
                except ValueError:
                    """Two processes wrote at once, or one was killed."""
