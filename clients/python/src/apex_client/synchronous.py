"""The client that blocks."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack, cast

import httpx

from apex_client.calls import Call, Emit, Flow, Outcome, Pause, Request, Step
from apex_client.operations import (
    Batch,
    BatchFilters,
    BatchItem,
    BatchOptions,
    Comparison,
    Delivery,
    Embedding,
    Job,
    JobFilters,
    ModelCard,
    Operations,
    StreamEvent,
    Track,
    TrackOptions,
    Url,
    Usage,
    batch_path,
    job_path,
)

T = TypeVar("T")


class ApexClient:
    """A service at `url`, as the holder of `api_key` sees it. Use it in `with`, or call `close()`.

    max_retries : how often a request is repeated that fails for a reason that may pass
    http : the httpx.Client that sends; one of its own otherwise. What is handed in is not closed.
    Methods raise `ApiError` or `ConnectionFailed`, and what their texts name.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, max_retries: int = 5, http: httpx.Client | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._operations = Operations(max_retries)
        self._owned = http is None
        self._http = http or httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owned:
            self._http.close()

    def score(self, track: Track | Url, *, wait_s: float = 0, **options: Unpack[TrackOptions]) -> Job:
        """Send a track; its job, finished already if its scores are known, or come within `wait_s`."""
        return self._run(self._operations.score(track, options, wait_s=wait_s))

    def score_and_wait(self, track: Track | Url, *, timeout_s: float = 600, **options: Unpack[TrackOptions]) -> Job:
        """Send a track, and wait for its scores. Raises `JobFailed` or `WaitTimeout`."""
        return self._run(self._operations.score_and_wait(track, options, timeout_s=timeout_s))

    def wait(self, job_id: str, *, timeout_s: float = 600) -> Job:
        """Wait for the scores of a job. Raises `JobFailed` or `WaitTimeout`."""
        return self._run(self._operations.wait(job_id, timeout_s=timeout_s))

    def job(self, job_id: str, *, wait_s: float = 0) -> Job:
        """Read a job, once it is over or after `wait_s`."""
        return self._run(self._operations.job(job_id, wait_s=wait_s))

    def jobs(self, **filters: Unpack[JobFilters]) -> Iterator[Job]:
        """List jobs, newest first, reading them page by page."""
        return self._items("/jobs", filters)

    def events(self, job_id: str, *, last_event_id: str | None = None) -> Iterator[StreamEvent]:
        """Follow a job to its end, over connections that break: all events, or those after `last_event_id`."""
        return self._emitted(self._operations.events(job_path(job_id), last_event_id))

    def results(self, **filters: Unpack[JobFilters]) -> Iterator[Job]:
        """Read all jobs that pass the filters in one answer. Raises `ConnectionFailed` where it is cut off."""
        return self._emitted(self._operations.results("", filters))

    def results_csv(self, **filters: Unpack[JobFilters]) -> Iterator[str]:
        """The same as lines of a table, for a file or `csv.reader`."""
        return self._emitted(self._operations.results_csv("", filters))

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Read what came of telling a job's `webhook_url` how it ended."""
        return self._run(self._operations.deliveries(job_path(job_id)))

    def redeliver(self, job_id: str, delivery_id: str) -> Delivery:
        """Tell a job's end again, whatever came of it before."""
        return self._run(self._operations.redeliver(job_path(job_id), delivery_id))

    def cancel(self, job_id: str) -> Job:
        """Stop a job: one that waits at once, one that runs before its next segment."""
        return self._run(self._operations.cancel(job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job with its audio, scores and events."""
        self._run(self._operations.delete(job_id))

    def embedding(self, job_id: str) -> Embedding:
        """Read the embedding of a track that was sent with `embedding=True`."""
        return self._run(self._operations.embedding(job_id))

    def create_batch(self, tracks: Iterable[Track], **options: Unpack[BatchOptions]) -> Batch:
        """Send up to 20 tracks. Items are in the order of the tracks, each with a job or a problem."""
        return self._run(self._operations.create_batch(tracks, options))

    def batch(self, batch_id: str) -> Batch:
        """Read a batch: its counts and its first 100 items."""
        return self._run(self._operations.batch(batch_id))

    def wait_for_batch(self, batch_id: str, *, timeout_s: float = 3600) -> Batch:
        """Wait until every job of a batch is over. Raises `TimeoutError`."""
        return self._run(self._operations.wait_for_batch(batch_id, timeout_s=timeout_s))

    def batches(self, **filters: Unpack[BatchFilters]) -> Iterator[Batch]:
        """List batches, newest first, without their items."""
        return self._items("/batches", filters)

    def batch_items(self, batch_id: str) -> Iterator[BatchItem]:
        """All items of a batch, which may have 10,000."""
        return self._items(batch_path(batch_id), {})

    def batch_events(self, batch_id: str, *, last_event_id: str | None = None) -> Iterator[StreamEvent]:
        """Follow a batch until everything in it is final, over connections that break."""
        return self._emitted(self._operations.events(batch_path(batch_id), last_event_id))

    def batch_results(self, batch_id: str) -> Iterator[BatchItem]:
        """Read all items of a batch in one answer. Raises `ConnectionFailed` where it is cut off."""
        return self._emitted(self._operations.results(batch_path(batch_id), {}))

    def batch_results_csv(self, batch_id: str) -> Iterator[str]:
        """The same as lines of a table, for a file or `csv.reader`."""
        return self._emitted(self._operations.results_csv(batch_path(batch_id), {}))

    def batch_deliveries(self, batch_id: str) -> list[Delivery]:
        """Read what came of telling a batch's `webhook_url` that it is complete."""
        return self._run(self._operations.deliveries(batch_path(batch_id)))

    def redeliver_batch(self, batch_id: str, delivery_id: str) -> Delivery:
        """Tell again that a batch is complete."""
        return self._run(self._operations.redeliver(batch_path(batch_id), delivery_id))

    def cancel_batch(self, batch_id: str) -> Batch:
        """Stop every job of a batch that is not over."""
        return self._run(self._operations.cancel_batch(batch_id))

    def usage(self, *, days: int | None = None) -> Usage:
        """Read what this key and its tenant used by day, and what is left of the key's limits."""
        return self._run(self._operations.usage(days))

    def compare(self, job_ids: Sequence[str], criterion: Mapping[str, float]) -> Comparison:
        """Rank finished jobs by a weighted mean of their scores."""
        return self._run(self._operations.compare(job_ids, criterion))

    def model(self) -> ModelCard:
        """Read which model the workers run, and what its scores mean and do not mean."""
        return self._run(self._operations.model())

    def _items(self, path: str, filters: Mapping[str, Any]) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            page = self._run(self._operations.page(path, filters, cursor))
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _run(self, call: Call[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = call.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = self._take(step, None)

    def _emitted(self, flow: Flow[T]) -> Iterator[T]:
        answer, outcome = OpenAnswer(), cast(Outcome, None)
        try:
            while True:
                try:
                    step = flow.send(outcome)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    outcome = None
                    yield step.value
                else:
                    outcome = self._take(step, answer)
        finally:
            answer.close()

    def _take(self, step: Step, answer: "OpenAnswer | None") -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            if isinstance(step, Request):
                return self._send(step, answer)
            return answer.read() if answer else None
        except httpx.TransportError as error:
            return error

    def _send(self, step: Request, answer: "OpenAnswer | None") -> httpx.Response:
        with step.arguments() as arguments:
            headers = {**arguments.pop("headers"), **self._headers}
            request = self._http.build_request(step.method, self._url + step.path, headers=headers, **arguments)
            response = self._http.send(request, stream=step.stream)
        if answer and response.is_success:
            answer.open(response)
        else:
            response.read()
        return response


class OpenAnswer:
    """The answer that is read part by part, one at a time."""

    def __init__(self) -> None:
        self._response: httpx.Response | None = None
        self._parts: Iterator[bytes] | None = None

    def open(self, response: httpx.Response) -> None:
        """Read this one from now on, and none before."""
        self.close()
        self._response, self._parts = response, response.iter_bytes()

    def read(self) -> bytes | None:
        """The next part, None at the end. Raises `httpx.TransportError`."""
        return next(self._parts, None) if self._parts else None

    def close(self) -> None:
        """Leave the rest of it unread."""
        if self._response is not None:
            self._response.close()
