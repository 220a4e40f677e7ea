"""Listing: a tenant's jobs by page, newest first.

A cursor is the creation time and id of the last job looked at, so jobs that are added or deleted between two pages move
no other. One request reads a bounded number of records, however few of them match the filters.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from itertools import dropwhile, islice

from app.api.schemas.job import JobFilters, JobQuery
from app.core.jobs.models import Job
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.problems import Problem

MAX_LIMIT = 100
#: Most records that one request reads.
MAX_SCANNED = 1000
#: Least records that are read in one round trip.
CHUNK = 100
#: Fields of a record that have a filter.
FIELDS = ("status", "external_id", "batch_id")
MAX_CURSOR_CHARS = 256

#: Time and id of a job. Jobs are listed from the greatest down.
Position = tuple[float, str]


def list_jobs(store: JobStore, tenant: str, query: JobQuery) -> tuple[list[Job], str | None]:
    """A page of jobs, and the cursor of the next page. Removes expired records that it meets from the list. Blocking.

    Raises `bad_cursor` for a cursor that was given with other filters, or by no one.
    """
    limit = min(max(query.limit, 1), MAX_LIMIT)
    filters = JobFilters(**query.model_dump(exclude={"limit", "cursor"}))
    binding = _binding(tenant, filters)
    start = _decode(query.cursor, binding) if query.cursor is not None else None
    positions = _positions(store, tenant, filters, start)
    page = Page(filters, limit)
    for position, fields in _with_fields(store, islice(positions, MAX_SCANNED), limit + 1):
        if page.is_full:
            return _finish(store, tenant, page, binding)
        page.add(position, fields)
    page.is_last = next(positions, None) is None
    return _finish(store, tenant, page, binding)


class Page:
    """The matching jobs that one request has found so far."""

    def __init__(self, filters: JobFilters, limit: int) -> None:
        self.filters = filters
        self.limit = limit
        self.ids: list[str] = []
        self.expired: list[str] = []
        self.end: Position | None = None
        self.is_last = False

    @property
    def is_full(self) -> bool:
        return len(self.ids) == self.limit

    def add(self, position: Position, fields: Json | None) -> None:
        """Take a record if it matches. `fields` is None for one that has expired."""
        self.end = position
        created_at, job_id = position
        if fields is None:
            self.expired.append(job_id)
        elif matches(created_at, fields, self.filters):
            self.ids.append(job_id)


def matches(created_at: float, fields: Json, filters: JobFilters) -> bool:
    """Whether a job passes all filters."""
    after, before = filters.created_after, filters.created_before
    return (
        all(getattr(filters, name) in (None, fields[name]) for name in FIELDS)
        and (after is None or created_at > after.timestamp())
        and (before is None or created_at < before.timestamp())
    )


def _finish(store: JobStore, tenant: str, page: Page, binding: str) -> tuple[list[Job], str | None]:
    store.forget_listed(tenant, *page.expired)
    jobs = [job for job in store.get_many(page.ids) if job]
    return jobs, None if page.is_last or page.end is None else _encode(page.end, binding)


def _positions(store: JobStore, tenant: str, filters: JobFilters, start: Position | None) -> Iterator[Position]:
    newest = filters.created_before.timestamp() if filters.created_before else math.inf
    oldest = filters.created_after.timestamp() if filters.created_after else 0.0
    if start is None:
        return store.list_by_created(tenant, newest=newest, oldest=oldest)
    listed = store.list_by_created(tenant, newest=min(newest, start[0]), oldest=oldest)
    return dropwhile(lambda position: position >= start, listed)


def _with_fields(store: JobStore, positions: Iterable[Position], size: int) -> Iterator[tuple[Position, Json | None]]:
    # Only the filtered fields are read: a record is many times larger, and few may match.
    positions = iter(positions)
    while chunk := list(islice(positions, max(size, CHUNK))):
        yield from zip(chunk, store.get_fields((job_id for _, job_id in chunk), FIELDS), strict=True)


def _binding(tenant: str, filters: JobFilters) -> str:
    """Ties a cursor to its list. It needs no secret: a forged cursor shows its sender nothing but their own jobs."""
    return hashlib.sha256(f"{tenant} {filters.model_dump_json()}".encode()).hexdigest()[:16]


def _encode(position: Position, binding: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*position, binding]).encode()).decode().rstrip("=")


def _decode(cursor: str, binding: str) -> Position:
    try:
        created_at, job_id, bound = json.loads(_unpadded(cursor))
        position = float(created_at), str(job_id)
    except (ValueError, TypeError):
        raise Problem("bad_cursor") from None
    if bound != binding or not math.isfinite(position[0]):
        raise Problem("bad_cursor")
    return position


def _unpadded(cursor: str) -> bytes:
    if len(cursor) > MAX_CURSOR_CHARS:
        raise ValueError("no cursor is so long")
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
