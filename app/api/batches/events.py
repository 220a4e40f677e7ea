"""Server-sent events of a batch: how many of its jobs are in which state, while they change."""

from app.api.batches.store import Batch, BatchStatus
from app.api.batches.views import summary_view
from app.api.dependencies import Services
from app.api.jobs.events import encode_event

SNAPSHOT, PROGRESS, COMPLETED = "batch.snapshot", "batch.progress", "batch.completed"


class BatchEventFeed:
    """The events of a batch for one client. Blocking.

    Each tells the whole, so nothing is repeated to a client that comes again, but for this: `after`, the id of the last
    event that it received, may be of the end, and then nothing is left to tell.
    """

    def __init__(self, services: Services, batch: Batch, *, after: str | None) -> None:
        self.services = services
        self.subject_id = batch.id
        self._batch = batch
        self._told: BatchStatus | None = None
        status = services.batches.status(batch)
        self.finished = status.done and after == _end_id(status)

    def read(self) -> list[bytes]:
        """What is to be told since the last call. Afterwards `finished` is set if no more can follow."""
        if self.services.batches.get(self._batch.tenant, self._batch.id) is None:
            self.finished = True
            return []
        before, status = self._told, self.services.batches.status(self._batch)
        self._told, self.finished = status, status.done
        frames = [] if before and before.counts == status.counts else [self._frame(_name(before), status)]
        return [*frames, self._frame(COMPLETED, status, id=_end_id(status))] if status.done else frames

    def _frame(self, name: str, status: BatchStatus, *, id: str | None = None) -> bytes:
        view = summary_view(self._batch, status, root_path=self.services.settings.root_path)
        return encode_event(name, view, id=id)


def _name(before: BatchStatus | None) -> str:
    return PROGRESS if before else SNAPSHOT


def _end_id(status: BatchStatus) -> str:
    """Names the end of a batch: with a job that joins later it has another."""
    return f"completed-{status.counts['total']}"
