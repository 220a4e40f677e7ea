"""One job or item of a batch as a line, in each format."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from app.api.batches.views import EXPIRED_CODE
from app.api.schemas.batch import BatchItem
from app.api.schemas.job import Job
from app.api.schemas.problem import Problem
from app.core.csv_lines import csv_line
from app.core.json_types import Json
from model.domain import SCORE_RANGES

Row = Job | BatchItem

#: Columns about a job, by their names in the first line. The scores come between.
_BEFORE: Mapping[str, Callable[[Job], object]] = {
    "id": lambda job: job.id,
    "external_id": lambda job: job.external_id,
    "batch_id": lambda job: job.batch_id,
    "status": lambda job: job.status.value,
    "livemode": lambda job: _truth(job.livemode),
    "created_at": lambda job: job.created_at,
    "finished_at": lambda job: job.finished_at,
    "duration_s": lambda job: job.audio.duration_s,
}
_AFTER: Mapping[str, Callable[[Job], object]] = {
    "model_version": lambda job: job.model and job.model.version,
    "trained": lambda job: job.model and _truth(job.model.trained),
    "cached": lambda job: _truth(job.cached),
    "sha256": lambda job: job.audio.sha256,
    "metadata": lambda job: json.dumps(job.metadata, ensure_ascii=False) if job.metadata else None,
}
JOB_COLUMNS = (*_BEFORE, *SCORE_RANGES, *_AFTER, "error_code", "error_detail")
ITEM_COLUMNS = ("index", *JOB_COLUMNS)


@dataclass(frozen=True)
class Format:
    """How rows are written. `head` is the first line, given the columns."""

    media_type: str
    head: Callable[[Iterable[str]], str]
    line: Callable[[Row], str]


def _json_line(row: Row) -> str:
    return row.model_dump_json(by_alias=True) + "\n"


def _csv_row(row: Row) -> str:
    return csv_line(_job_cells(row) if isinstance(row, Job) else [row.index, *_item_cells(row)])


def _item_cells(item: BatchItem) -> list[object]:
    if item.job:
        return _job_cells(item.job)
    is_gone = item.problem is not None and item.problem.code == EXPIRED_CODE
    known: Json = {"external_id": item.external_id, "status": "expired" if is_gone else "rejected"}
    return list((dict.fromkeys(JOB_COLUMNS) | known | _error(item.problem)).values())


def _job_cells(job: Job) -> list[object]:
    scores = job.result.scores if job.result else None
    return [
        *(cell(job) for cell in _BEFORE.values()),
        *(getattr(scores, name, None) for name in SCORE_RANGES),
        *(cell(job) for cell in _AFTER.values()),
        *_error(job.error).values(),
    ]


def _error(problem: Problem | None) -> Json:
    return {"error_code": problem and problem.code, "error_detail": problem and problem.detail}


def _truth(value: bool) -> str:
    return "true" if value else "false"


#: The first one is for clients that accept anything.
FORMATS: Mapping[str, Format] = {
    each.media_type: each
    for each in (
        Format("application/jsonl", lambda _: "", _json_line),
        Format("text/csv", csv_line, _csv_row),
    )
}
