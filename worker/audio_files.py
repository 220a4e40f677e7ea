"""The audio of a job as a file on this machine, which the decoder's child process needs."""

import hashlib
import logging
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from app.core.jobs.models import Job
from app.core.storage.protocol import Storage

log = logging.getLogger(__name__)

BLOCK_BYTES = 4 * 1024 * 1024
#: Between two signs of life while a copy is waited for.
WAIT_S = 1.0


class WrongBytes(OSError):
    """A copy is not of the bytes that were uploaded. No fault of this machine, so that the run counts."""


class AudioFiles(Protocol):
    """Opens the audio of jobs. What it opened is to be closed."""

    def open(self, job: Job) -> BinaryIO:
        """The audio as a file with a descriptor. `FileNotFoundError` when it is gone, other `OSError`s when it is away.

        Blocking.
        """

    def look_ahead(self) -> None:
        """Called while the model works: what the next job needs may be fetched. Returns at once, raises nothing."""


@dataclass(frozen=True)
class StoredFiles:
    """Files of a folder, read where they are."""

    storage: Storage

    def open(self, job: Job) -> BinaryIO:
        return self.storage.open(job.storage_key)

    def look_ahead(self) -> None:
        """A folder needs none."""


@dataclass
class ScratchCopies:
    """Copies of objects, in unlinked files, each checked against the digest in its job's record.

    One further copy is made ahead, of the job at the head of the queue, and dropped when another worker takes that.
    It holds no job: its failure is nobody's.

    next_job : the job at the head of the queue, if there is one; called on a thread of its own
    on_progress : called at least at each block while a copy is made or waited for
    """

    storage: Storage
    scratch_dir: Path
    next_job: Callable[[], Job | None]
    on_progress: Callable[[], object]
    _prefetch: "Prefetch | None" = field(default=None, init=False)

    def open(self, job: Job) -> BinaryIO:
        prefetch, self._prefetch = self._prefetch, None
        if prefetch and (copy := prefetch.take(job, self.on_progress)):
            return copy
        return self._copy(job, self.on_progress)

    def look_ahead(self) -> None:
        if self._prefetch is None:
            self._prefetch = Prefetch(self.next_job, lambda job: self._copy(job, lambda: None))

    def close(self) -> None:
        """Drop the copy that was made ahead."""
        prefetch, self._prefetch = self._prefetch, None
        if prefetch:
            prefetch.drop()

    def _copy(self, job: Job, on_block: Callable[[], object]) -> BinaryIO:
        digest = hashlib.sha256()
        with ExitStack() as on_failure, self.storage.open(job.storage_key) as source:
            copy = on_failure.enter_context(tempfile.TemporaryFile(dir=self.scratch_dir))
            while block := source.read(BLOCK_BYTES):
                copy.write(block)
                digest.update(block)
                on_block()
            if digest.hexdigest() != job.audio.get("sha256", digest.hexdigest()):
                raise WrongBytes("the stored audio is not what was uploaded")
            copy.seek(0)
            on_failure.pop_all()
        return copy


class Prefetch:
    """One copy that is being made on a thread, for whichever job is next."""

    def __init__(self, next_job: Callable[[], Job | None], copy: Callable[[Job], BinaryIO]) -> None:
        self._next_job = next_job
        self._copy = copy
        self._key: str | None = None
        self._made: Future[BinaryIO | None] = Future()
        try:
            threading.Thread(target=self._run, name="copy ahead", daemon=True).start()
        except RuntimeError:  # the system refuses a thread
            self._made.set_result(None)

    def take(self, job: Job, on_wait: Callable[[], object]) -> BinaryIO | None:
        """The copy, if it is of this job; waits for one that is being made. Otherwise it is dropped."""
        if self._key != job.storage_key:
            self.drop()
            return None
        while not wait([self._made], WAIT_S).done:
            on_wait()
        return self._made.result()

    def drop(self) -> None:
        """Close the copy, now or when it is made."""
        self._made.add_done_callback(_close)

    def _run(self) -> None:
        try:
            job = self._next_job()
            self._key = job.storage_key if job else None
            self._made.set_result(self._copy(job) if job else None)
        except Exception as error:
            log.info("nothing was fetched ahead: %s", error)
            self._made.set_result(None)


def _close(made: "Future[BinaryIO | None]") -> None:
    if copy := made.result():
        copy.close()
