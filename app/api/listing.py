"""Listing: what a tenant made, by page, newest first.

A cursor is the creation time and id of the last thing looked at, so what is added or deleted between two pages moves
nothing else. One request looks at a bounded number of records, however few of them match the filters.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile, islice
from typing import Protocol

from pydantic import AwareDatetime, BaseModel

from app.core.created_index import CreatedIndex, Position
from app.core.json_types import Json
from app.core.problems import Problem

MAX_LIMIT = 100
#: Most records that one request looks at.
MAX_SCANNED = 1000
#: Least records that are read in one round trip.
CHUNK = 100
MAX_CURSOR_CHARS = 256


class Filters(Protocol):
    """What every list can be filtered by, beside filters of its own."""

    @property
    def created_after(self) -> AwareDatetime | None: ...

    @property
    def created_before(self) -> AwareDatetime | None: ...


@dataclass(frozen=True)
class Listed:
    """What can be listed. Its methods are blocking.

    index : the ids
    read : what the filters need of some records; None for one that has expired
    matches : whether a record passes the filters, those of time aside
    binding : ties a cursor to its list; another list and other filters have another
    """

    index: CreatedIndex
    filters: Filters
    read: Callable[[Sequence[str]], Iterable[Json | None]]
    matches: Callable[[Json], bool]
    binding: str

    def page(self, limit: int, cursor: str | None) -> tuple[list[str], str | None]:
        """The ids of a page, and the cursor of the next. Drops expired ids that it meets from the index.

        Raises `bad_cursor` for a cursor that was given with other filters, or by no one.
        """
        limit = page_size(limit)
        positions = self._positions(_decode(cursor, self.binding) if cursor is not None else None)
        page = _Page(limit)
        for position, fields in self._with_fields(islice(positions, MAX_SCANNED), limit + 1):
            if page.is_full:
                return self._finish(page)
            page.add(position, fields, matches=fields is not None and self._passes(position[0], fields))
        page.is_last = next(positions, None) is None
        return self._finish(page)

    def all_ids(self) -> Iterator[str]:
        """The ids of all that match, read a part at a time."""
        for (created_at, each_id), fields in self._with_fields(self._positions(None), CHUNK):
            if fields is not None and self._passes(created_at, fields):
                yield each_id

    def _finish(self, page: "_Page") -> tuple[list[str], str | None]:
        self.index.forget(*page.expired)
        return page.ids, None if page.is_last or page.end is None else _encode(page.end, self.binding)

    def _positions(self, start: Position | None) -> Iterator[Position]:
        after, before = self.filters.created_after, self.filters.created_before
        newest = before.timestamp() if before else math.inf
        oldest = after.timestamp() if after else 0.0
        if start is None:
            return self.index.newest_first(newest=newest, oldest=oldest)
        listed = self.index.newest_first(newest=min(newest, start[0]), oldest=oldest)
        return dropwhile(lambda position: position >= start, listed)

    def _with_fields(self, positions: Iterable[Position], size: int) -> Iterator[tuple[Position, Json | None]]:
        # Only the filtered fields are read: a record is many times larger, and few may match.
        positions = iter(positions)
        while chunk := list(islice(positions, max(size, CHUNK))):
            yield from zip(chunk, self.read([each_id for _, each_id in chunk]), strict=True)

    def _passes(self, created_at: float, fields: Json) -> bool:
        after, before = self.filters.created_after, self.filters.created_before
        return (
            self.matches(fields)
            and (after is None or created_at > after.timestamp())
            and (before is None or created_at < before.timestamp())
        )


class _Page:
    """What one request has found so far."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ids: list[str] = []
        self.expired: list[str] = []
        self.end: Position | None = None
        self.is_last = False

    @property
    def is_full(self) -> bool:
        return len(self.ids) == self.limit

    def add(self, position: Position, fields: Json | None, *, matches: bool) -> None:
        self.end = position
        if fields is None:
            self.expired.append(position[1])
        elif matches:
            self.ids.append(position[1])


def page_size(limit: int) -> int:
    """How much a client gets that asks for `limit`."""
    return min(max(limit, 1), MAX_LIMIT)


def binding(tenant: str, filters: BaseModel) -> str:
    """Ties a cursor to its list. It needs no secret: a forged cursor shows its sender nothing but their own data."""
    return hashlib.sha256(f"{tenant} {filters.model_dump_json(exclude_none=True)}".encode()).hexdigest()[:16]


def _encode(position: Position, binding: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*position, binding]).encode()).decode().rstrip("=")


def _decode(cursor: str, binding: str) -> Position:
    try:
        created_at, each_id, bound = json.loads(_unpadded(cursor))
        position = float(created_at), str(each_id)
    except (ValueError, TypeError):
        raise Problem("bad_cursor") from None
    if bound != binding or not math.isfinite(position[0]):
        raise Problem("bad_cursor")
    return position


def _unpadded(cursor: str) -> bytes:
    if len(cursor) > MAX_CURSOR_CHARS:
        raise ValueError("no cursor is so long")
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
