"""Results of many jobs in one answer, of which a part at a time is in memory."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from fastapi import Request
from fastapi.responses import StreamingResponse

from app.api.auth.authentication import reauthenticate
from app.api.batches.store import Batch
from app.api.batches.views import items_view
from app.api.dependencies import Services
from app.api.listing import Listed
from app.api.results.lines import FORMATS, ITEM_COLUMNS, JOB_COLUMNS, Format, Row
from app.api.results.media_types import preferred
from app.core.problems import Problem

#: Rows that are read and sent together.
PART = 100

_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}


def results_of_jobs(request: Request, services: Services, listed: Listed) -> StreamingResponse:
    """All jobs of a list, a row for each. Raises `not_acceptable`."""
    return _response(request, JOB_COLUMNS, lambda: _jobs(services, listed))


def results_of_batch(request: Request, services: Services, batch: Batch) -> StreamingResponse:
    """All items of a batch in their order, a row for each. Raises `not_acceptable`."""
    return _response(request, ITEM_COLUMNS, lambda: _items(services, batch))


def _response(
    request: Request, columns: Iterable[str], parts: Callable[[], Iterator[Iterable[Row]]]
) -> StreamingResponse:
    form = _accepted(request)
    lines = _lines(request, form, columns, parts())
    return StreamingResponse(lines, media_type=f"{form.media_type}; charset=utf-8", headers=_HEADERS)


def _accepted(request: Request) -> Format:
    media_type = preferred(",".join(request.headers.getlist("accept")), list(FORMATS))
    if media_type is None:
        raise Problem("not_acceptable", f"The results can be had as {' and as '.join(FORMATS)}.")
    return FORMATS[media_type]


def _lines(request: Request, form: Format, columns: Iterable[str], parts: Iterator[Iterable[Row]]) -> Iterator[str]:
    """What is raised here, for a key that was revoked meanwhile too, cuts the answer: it does not look complete."""
    yield form.head(columns)
    for rows in parts:
        reauthenticate(request)
        yield "".join(map(form.line, rows))


def _jobs(services: Services, listed: Listed) -> Iterator[Iterable[Row]]:
    ids = listed.all_ids()
    while part := list(islice(ids, PART)):
        yield services.job_service.views([job for job in services.jobs.get_many(part) if job])


def _items(services: Services, batch: Batch) -> Iterator[Iterable[Row]]:
    start = 0
    while rows := items_view(services, batch, start, start + PART):
        yield rows
        start += PART
