"""A parser of server-sent events, as simple as the tests need it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ReceivedEvent:
    """One event, or a comment."""

    name: str | None = None
    id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    comment: str | None = None


def parse(lines: Iterable[str]) -> Iterator[ReceivedEvent]:
    """The events of a stream, each as soon as its empty line has come."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield ReceivedEvent(
                fields.get("event"), fields.get("id"), json.loads(fields.get("data", "{}")), fields.get("")
            )
            fields = {}
