"""Results of many jobs in one answer, which may be of any size: read line by line."""

import json
from typing import Any

import httpx

from apex_client.calls import Call, Emit, Flow, Lines, Request, send
from apex_client.errors import ConnectionFailed

JSON_LINES, CSV = "application/jsonl", "text/csv"


def rows(path: str, params: dict[str, Any], max_retries: int) -> Flow[Any]:
    """Each job or item."""
    lines = yield from _opened(path, params, JSON_LINES, max_retries)
    while (line := (yield from _next(lines))) is not None:
        yield Emit(json.loads(line))


def csv_lines(path: str, params: dict[str, Any], max_retries: int) -> Flow[str]:
    """Lines of a table with their breaks, as `csv.reader` takes them; the first names the columns."""
    lines = yield from _opened(path, params, CSV, max_retries)
    while (line := (yield from _next(lines))) is not None:
        yield Emit(f"{line.decode()}\n")


def _opened(path: str, params: dict[str, Any], media_type: str, max_retries: int) -> Call[Lines]:
    request = Request("GET", path, params=params, headers={"Accept": media_type}, stream=True)
    yield from send(request, max_retries)
    return Lines()


def _next(lines: Lines) -> Call[bytes | None]:
    try:
        return (yield from lines.next())
    except httpx.TransportError as error:
        raise ConnectionFailed(f"the results were cut off: {error}") from error
