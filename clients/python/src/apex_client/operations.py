"""What the service can be asked for, as calls that either client carries out."""

import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, cast

import httpx

from apex_client.calls import Call, Flow, Pause, Request, Track, send
from apex_client.errors import JobFailed, WaitTimeout, retry_after_s
from apex_client.events import StreamEvent, follow
from apex_client.results import csv_lines, rows
from apex_client.types import Batch, BatchItem, Comparison, Delivery, Embedding, Job, ModelCard, Usage

__all__ = [
    "Batch",
    "BatchFilters",
    "BatchItem",
    "BatchOptions",
    "Comparison",
    "Delivery",
    "Embedding",
    "Job",
    "JobFilters",
    "ModelCard",
    "StreamEvent",
    "Track",
    "TrackOptions",
    "Url",
    "Usage",
]


#: What one request waits at most; below what proxies commonly allow.
LONGEST_WAIT_S = 20
PAGE = 100

_ID = re.compile(r"[A-Za-z0-9_-]+")

Waited = TypeVar("Waited", Job, Batch)


def id_of(text: str) -> str:
    """An id as a part of a path. Raises ValueError for a text that could lead to another path."""
    if not _ID.fullmatch(text):
        raise ValueError(f"not an id: {text!r}")
    return text


class Url(str):
    """The address of a track that the service fetches itself, from a host that its operator allows."""


class Sending(TypedDict, total=False):
    """What concerns the request itself. `cancel_after` is a deadline such as `10m`."""

    idempotency_key: str
    cancel_after: str


class TrackOptions(Sending, total=False):
    """What may be said of a track: the fields of `POST /score`."""

    external_id: str
    metadata: Mapping[str, str]
    batch_id: str
    model_version: str
    segments: bool
    embedding: bool
    webhook_url: str
    webhook_events: Sequence[str]


class BatchOptions(Sending, total=False):
    """What may be said of a batch: the fields of `POST /batches`."""

    batch_external_id: str
    metadata: Mapping[str, str]
    model_version: str
    segments: bool
    embedding: bool
    webhook_url: str
    webhook_events: Sequence[str]


class JobFilters(TypedDict, total=False):
    """Which jobs are listed; times in RFC 3339."""

    status: str
    external_id: str
    batch_id: str
    created_after: str
    created_before: str
    metadata: Mapping[str, str]


class BatchFilters(TypedDict, total=False):
    """Which batches are listed; times in RFC 3339."""

    batch_external_id: str
    done: bool
    created_after: str
    created_before: str


@dataclass(frozen=True)
class Operations:
    """Each method makes a call."""

    max_retries: int

    def score(self, track: Track | Url, options: TrackOptions, *, wait_s: float = 0) -> Call[Job]:
        if isinstance(track, Url):
            return self._submit("/score/url", options, wait_s, url=str(track))
        return self._submit("/score", options, wait_s, tracks=[("file", track)])

    def score_and_wait(self, track: Track | Url, options: TrackOptions, *, timeout_s: float) -> Call[Job]:
        deadline = time.monotonic() + timeout_s
        job = yield from self.score(track, options, wait_s=min(LONGEST_WAIT_S, timeout_s))
        return (yield from self._wait_until_scored(job, deadline))

    def wait(self, job_id: str, *, timeout_s: float) -> Call[Job]:
        deadline = time.monotonic() + timeout_s
        job = yield from self.job(job_id)
        return (yield from self._wait_until_scored(job, deadline))

    def job(self, job_id: str, *, wait_s: float = 0) -> Call[Job]:
        return self._json("GET", job_path(job_id), params={"wait": int(wait_s)} if wait_s else {}, wait_s=wait_s)

    def page(self, path: str, filters: Mapping[str, Any], cursor: str | None) -> Call[Any]:
        params = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
        return self._json("GET", path, params=params | filter_texts(filters))

    def events(self, subject: str, last_event_id: str | None) -> Flow[StreamEvent]:
        return follow(f"{subject}/events", last_event_id, self.max_retries)

    def results(self, subject: str, filters: Mapping[str, Any]) -> Flow[Any]:
        return rows(f"{subject}/results", filter_texts(filters), self.max_retries)

    def results_csv(self, subject: str, filters: Mapping[str, Any]) -> Flow[str]:
        return csv_lines(f"{subject}/results", filter_texts(filters), self.max_retries)

    def deliveries(self, subject: str) -> Call[list[Delivery]]:
        found = yield from self._json("GET", f"{subject}/deliveries")
        return cast(list[Delivery], found["items"])

    def redeliver(self, subject: str, delivery_id: str) -> Call[Delivery]:
        return self._json("POST", f"{subject}/deliveries/{id_of(delivery_id)}/redeliver")

    def cancel(self, job_id: str) -> Call[Job]:
        return self._json("POST", f"{job_path(job_id)}/cancel")

    def delete(self, job_id: str) -> Call[httpx.Response]:
        return send(Request("DELETE", job_path(job_id)), self.max_retries)

    def embedding(self, job_id: str) -> Call[Embedding]:
        return self._json("GET", f"{job_path(job_id)}/embedding")

    def create_batch(self, tracks: Iterable[Track], options: BatchOptions) -> Call[Batch]:
        return self._submit("/batches", options, tracks=[("files", track) for track in tracks])

    def batch(self, batch_id: str) -> Call[Batch]:
        return self._json("GET", batch_path(batch_id), params={"limit": PAGE})

    def wait_for_batch(self, batch_id: str, *, timeout_s: float) -> Call[Batch]:
        deadline = time.monotonic() + timeout_s
        while True:
            answer = yield from send(Request("GET", batch_path(batch_id), params={"limit": PAGE}), self.max_retries)
            batch = cast(Batch, answer.json())
            if batch["done"]:
                return batch
            pause_s = retry_after_s(answer) or 1.0
            if time.monotonic() + pause_s > deadline:
                raise TimeoutError(f"{batch_id} is not done")
            yield Pause(pause_s)

    def cancel_batch(self, batch_id: str) -> Call[Batch]:
        return self._json("POST", f"{batch_path(batch_id)}/cancel")

    def usage(self, days: int | None) -> Call[Usage]:
        return self._json("GET", "/usage", params={"days": days} if days else {})

    def compare(self, job_ids: Sequence[str], criterion: Mapping[str, float]) -> Call[Comparison]:
        return self._json("POST", "/compare", json={"job_ids": list(job_ids), "criterion": dict(criterion)})

    def model(self) -> Call[ModelCard]:
        return self._json("GET", "/model")

    def _wait_until_scored(self, job: Job, deadline: float) -> Call[Job]:
        """The job once it has scores. Raises `JobFailed` when it gets none, `WaitTimeout` at the deadline."""
        while not job["done"]:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(job)
            wait_s, asked_at = max(min(LONGEST_WAIT_S, left_s), 1), time.monotonic()
            request = Request("GET", job_path(job["id"]), params={"wait": int(wait_s)}, wait_s=wait_s)
            answer = yield from send(request, self.max_retries)
            job = answer.json()
            if not job["done"] and time.monotonic() - asked_at < int(wait_s) / 2:
                yield Pause(min(retry_after_s(answer) or 1.0, left_s))  # a service that lets nobody wait
        if job["status"] != "succeeded":
            raise JobFailed(job)
        return job

    def _submit(
        self,
        path: str,
        options: Mapping[str, Any],
        wait_s: float = 0,
        *,
        tracks: Sequence[tuple[str, Track]] = (),
        url: str | None = None,
    ) -> Call[Any]:
        """Send tracks with their options as a form, or a URL with them as JSON."""
        given = {name: value for name, value in options.items() if value is not None}
        headers = {"Idempotency-Key": given.pop("idempotency_key", None) or str(uuid.uuid4())}
        if cancel_after := given.pop("cancel_after", None):
            headers["Cancel-After"] = cancel_after
        if wait_s >= 1:
            headers["Prefer"] = f"wait={int(wait_s)}"
        if url is not None:
            # Lists are texts with commas in JSON, too.
            body = {
                name: value if isinstance(value, Mapping | bool) else field_text(value) for name, value in given.items()
            }
            return self._json("POST", path, headers=headers, json=body | {"url": url}, wait_s=wait_s)
        fields = {name: field_text(value) for name, value in given.items()}
        return self._json("POST", path, headers=headers, fields=fields, tracks=tracks, wait_s=wait_s)

    def _json(self, method: str, path: str, **more: Any) -> Call[Any]:
        answer = yield from send(Request(method, path, **more), self.max_retries)
        return answer.json()


def job_path(job_id: str) -> str:
    """Where a job is. Raises ValueError for what is no id."""
    return f"/jobs/{id_of(job_id)}"


def batch_path(batch_id: str) -> str:
    """Where a batch is. Raises ValueError for what is no id."""
    return f"/batches/{id_of(batch_id)}"


def filter_texts(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Filters as a query carries them."""
    return {name: filter_text(value) for name, value in filters.items()}


def filter_text(value: Any) -> str | list[str]:
    """A filter as a query carries it; metadata as one parameter for each key."""
    return [f"{key}:{text}" for key, text in value.items()] if isinstance(value, Mapping) else field_text(value)


def field_text(value: Any) -> str:
    """A value as a field of a form carries it."""
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ",".join(value)
