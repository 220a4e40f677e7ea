"""A batch as its client reads it: the states of its jobs, a page of its items, and when it should be done."""

import logging
import re
from collections import Counter
from collections.abc import Sequence

from app.api.batches.store import EXTERNAL_ID, BatchStatus
from app.api.batches.store import Batch as BatchRecord
from app.api.dependencies import Services
from app.api.jobs.wait_estimate import QueueLoad, processing_time_s, retry_after_s
from app.api.listing import page_size
from app.api.schemas.batch import Batch, BatchItem, BatchQuery
from app.api.schemas.fields import timestamp
from app.api.schemas.job import Job
from app.api.schemas.problem import Problem as ProblemBody
from app.core.callers import Caller, is_live
from app.core.jobs.models import Job as JobRecord
from app.core.jobs.models import JobState
from app.core.json_types import Json
from app.core.problems import PROBLEMS, Problem, problem_object, under

log = logging.getLogger(__name__)

EXPIRED_CODE = "job_expired"

#: What came of a file: a job, or the problem that it has in place of one.
Outcome = JobRecord | Json

_CURSOR = re.compile(r"[0-9]{1,9}")


def owned_batch(services: Services, caller: Caller, batch_id: str) -> BatchRecord:
    """The caller's batch. Raises `not_found` for an unknown batch and for another tenant's. Blocking."""
    batch = services.batches.get(caller.tenant, batch_id)
    if batch is None:
        raise Problem("not_found", "There is no such batch.")
    return batch


def batch_view(
    services: Services, batch: BatchRecord, query: BatchQuery, *, filenames: Sequence[str | None] = ()
) -> Batch:
    """The batch with a page of its items. Raises `bad_cursor`. Blocking."""
    start = _start(query.cursor)
    end = start + page_size(query.limit)
    status, items = services.batches.status(batch), items_view(services, batch, start, end, filenames=filenames)
    return _view(services, batch, status, items, str(end) if end < status.counts["total"] else None)


def items_view(
    services: Services, batch: BatchRecord, start: int, end: int, *, filenames: Sequence[str | None] = ()
) -> list[BatchItem]:
    """The items from one index to before another. Blocking."""
    items = services.batches.items(batch, start, end)
    jobs = {job.id: job for job in services.jobs.get_many([item for item in items if isinstance(item, str)]) if job}
    outcomes = [jobs.get(item) or _expired() if isinstance(item, str) else item for item in items]
    return _items(services, outcomes, start, filenames)


def made_view(
    services: Services, batch: BatchRecord, outcomes: Sequence[Outcome], *, filenames: Sequence[str | None]
) -> Batch:
    """A batch that was made just now, from what came of its files: it can be told while Redis is away."""
    states = Counter(str(outcome.status) for outcome in outcomes if isinstance(outcome, JobRecord))
    rejected = len(outcomes) - states.total()
    status = BatchStatus({**dict.fromkeys(JobState, 0), **states, "total": len(outcomes), "rejected": rejected})
    return _view(services, batch, status, _items(services, outcomes, 0, filenames), None)


def _view(
    services: Services, batch: BatchRecord, status: BatchStatus, items: list[BatchItem], next_cursor: str | None
) -> Batch:
    end = _end(services, status.last_open)
    return _shown(batch, status, items, next_cursor, end=end, root_path=services.settings.root_path)


def summary_view(batch: BatchRecord, status: BatchStatus, *, root_path: str = "") -> Batch:
    """A batch without items, whose `next_cursor` leads to the first."""
    return _shown(batch, status, [], "0" if status.counts["total"] else None, end=(None, None), root_path=root_path)


def _shown(
    batch: BatchRecord,
    status: BatchStatus,
    items: list[BatchItem],
    next_cursor: str | None,
    *,
    end: tuple[float | None, float | None],
    root_path: str,
) -> Batch:
    done_at, done_in_s = end
    return Batch.model_validate(
        {
            "id": batch.id,
            "livemode": is_live(batch.tenant),
            "done": status.done,
            "batch_external_id": batch.external_id,
            "metadata": batch.metadata,
            "webhook_url": batch.webhook_url,
            "webhook_events": batch.webhook_events,
            "created_at": timestamp(batch.created_at),
            "estimated_done_at": timestamp(done_at),
            "done_in_s": done_in_s,
            "counts": status.counts,
            "items": items,
            "next_cursor": next_cursor,
            "links": {
                "self": f"{root_path}/batches/{batch.id}",
                "jobs": f"{root_path}/jobs?batch_id={batch.id}",
            },
        }
    )


def batch_headers(batch: Batch) -> dict[str, str]:
    """When to poll again. Never cached: a job may be added at any time."""
    if batch.done:
        return {"Cache-Control": "no-store"}
    again_s = retry_after_s(batch.done_in_s, position=batch.counts.queued + batch.counts.running)
    return {"Cache-Control": "no-store", "Retry-After": str(again_s)}


def _start(cursor: str | None) -> int:
    """The index of the first item. A cursor is just the next index, because an item never changes its place."""
    if cursor is None:
        return 0
    if not _CURSOR.fullmatch(cursor):
        raise Problem("bad_cursor")
    return int(cursor)


def _items(
    services: Services, outcomes: Sequence[Outcome], start: int, filenames: Sequence[str | None]
) -> list[BatchItem]:
    views = {
        view.id: view for view in services.job_service.views([job for job in outcomes if isinstance(job, JobRecord)])
    }
    names, root = dict(enumerate(filenames)), services.settings.root_path
    shown = [views.get(outcome.id) or _expired() if isinstance(outcome, JobRecord) else outcome for outcome in outcomes]
    return [_item(index, names.get(index), outcome, root) for index, outcome in enumerate(shown, start)]


def _item(index: int, filename: str | None, outcome: Job | Json, root_path: str) -> BatchItem:
    if isinstance(outcome, Job):
        return BatchItem(index=index, filename=filename, status=200 if outcome.done else 202, job=outcome)
    external_id = outcome.get(EXTERNAL_ID)
    shown = {name: value for name, value in outcome.items() if name != EXTERNAL_ID}
    problem = ProblemBody.model_validate(under(root_path, shown))
    # The name of a deleted file is deleted too: a response is stored.
    known = None if problem.code == EXPIRED_CODE else filename
    return BatchItem(index=index, filename=known, external_id=external_id, status=problem.status, problem=problem)


def _expired() -> Json:
    kind = PROBLEMS[EXPIRED_CODE]
    return problem_object(kind.code, kind.meaning)


def _end(services: Services, last_open: str | None) -> tuple[float | None, float | None]:
    """When the last job should be done: the last of those that wait, or of those that run, as jobs start in order.

    By Redis's clock, and in seconds from now; None when that cannot be told, which is not worth an error.
    """
    try:
        job = services.jobs.get(last_open) if last_open else None
        if job is None:
            return None, None
        load = services.job_service.queue_load()
        done_at = _job_done_at(services, job, load)
        return done_at, None if done_at is None else done_at - load.now
    except Exception:
        log.warning("the end of a batch cannot be estimated", exc_info=True)
        return None, None


def _job_done_at(services: Services, job: JobRecord, load: QueueLoad) -> float | None:
    position = services.queue_status.position(job)
    if position:
        return load.estimate(job, position).estimated_done_at
    run_s = processing_time_s(job.estimated_s, load.rate, 1)
    return None if run_s is None or job.started_at is None else job.started_at + run_s
