"""What the service can be asked for, as calls that either client carries out."""

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, cast

import httpx

from apex_client.calls import Call, Pause, Request, Track, send
from apex_client.errors import JobFailed, WaitTimeout, retry_after_s
from apex_client.types import Batch, Comparison, Embedding, Job, JobList, ModelCard

__all__ = [
    "Batch",
    "BatchOptions",
    "Comparison",
    "Embedding",
    "Job",
    "JobFilters",
    "ModelCard",
    "Track",
    "TrackOptions",
]

#: What one request waits at most; below what proxies commonly allow.
LONGEST_WAIT_S = 20
PAGE = 100

Waited = TypeVar("Waited", Job, Batch)


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


@dataclass(frozen=True)
class Operations:
    """Each method makes a call."""

    max_retries: int

    def score(self, track: Track, options: TrackOptions, *, wait_s: float = 0) -> Call[Job]:
        return self._submit("/score", [("file", track)], options, wait_s)

    def score_and_wait(self, track: Track, options: TrackOptions, *, timeout_s: float) -> Call[Job]:
        deadline = time.monotonic() + timeout_s
        job = yield from self.score(track, options, wait_s=min(LONGEST_WAIT_S, timeout_s))
        return (yield from self._scored(job, deadline))

    def wait(self, job_id: str, *, timeout_s: float) -> Call[Job]:
        deadline = time.monotonic() + timeout_s
        job = yield from self.job(job_id)
        return (yield from self._scored(job, deadline))

    def job(self, job_id: str, *, wait_s: float = 0) -> Call[Job]:
        return self._json("GET", f"/jobs/{job_id}", params={"wait": int(wait_s)} if wait_s else {}, wait_s=wait_s)

    def page(self, filters: JobFilters, cursor: str | None) -> Call[JobList]:
        params = {**filters, "limit": PAGE} | ({"cursor": cursor} if cursor else {})
        return self._json("GET", "/jobs", params=params)

    def cancel(self, job_id: str) -> Call[Job]:
        return self._json("POST", f"/jobs/{job_id}/cancel")

    def delete(self, job_id: str) -> Call[httpx.Response]:
        return send(Request("DELETE", f"/jobs/{job_id}"), self.max_retries)

    def embedding(self, job_id: str) -> Call[Embedding]:
        return self._json("GET", f"/jobs/{job_id}/embedding")

    def create_batch(self, tracks: Iterable[Track], options: BatchOptions) -> Call[Batch]:
        return self._submit("/batches", [("files", track) for track in tracks], options, 0)

    def batch(self, batch_id: str) -> Call[Batch]:
        return self._json("GET", f"/batches/{batch_id}", params={"limit": PAGE})

    def wait_for_batch(self, batch_id: str, *, timeout_s: float) -> Call[Batch]:
        deadline = time.monotonic() + timeout_s
        while True:
            answer = yield from send(Request("GET", f"/batches/{batch_id}", params={"limit": PAGE}), self.max_retries)
            batch = cast(Batch, answer.json())
            if batch["done"]:
                return batch
            pause_s = retry_after_s(answer) or 1.0
            if time.monotonic() + pause_s > deadline:
                raise TimeoutError(f"{batch_id} is not done")
            yield Pause(pause_s)

    def compare(self, job_ids: Sequence[str], criterion: Mapping[str, float]) -> Call[Comparison]:
        return self._json("POST", "/compare", json={"job_ids": list(job_ids), "criterion": dict(criterion)})

    def model(self) -> Call[ModelCard]:
        return self._json("GET", "/model")

    def _scored(self, job: Job, deadline: float) -> Call[Job]:
        """The job once it has scores. Raises `JobFailed` when it gets none, `WaitTimeout` at the deadline."""
        while not job["done"]:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(job)
            wait_s, asked_at = max(min(LONGEST_WAIT_S, left_s), 1), time.monotonic()
            path = f"/jobs/{job['id']}"
            request = Request("GET", path, params={"wait": int(wait_s)}, wait_s=wait_s)
            answer = yield from send(request, self.max_retries)
            job = answer.json()
            if not job["done"] and time.monotonic() - asked_at < int(wait_s) / 2:
                yield Pause(min(retry_after_s(answer) or 1.0, left_s))  # a service that lets nobody wait
        if job["status"] != "succeeded":
            raise JobFailed(job)
        return job

    def _submit(
        self, path: str, tracks: Sequence[tuple[str, Track]], options: Mapping[str, Any], wait_s: float
    ) -> Call[Any]:
        fields = dict(options)
        headers = {"Idempotency-Key": fields.pop("idempotency_key", None) or str(uuid.uuid4())}
        if cancel_after := fields.pop("cancel_after", None):
            headers["Cancel-After"] = cancel_after
        if wait_s >= 1:
            headers["Prefer"] = f"wait={int(wait_s)}"
        texts = {name: field_text(value) for name, value in fields.items() if value is not None}
        return self._json("POST", path, headers=headers, fields=texts, tracks=tracks, wait_s=wait_s)

    def _json(self, method: str, path: str, **more: Any) -> Call[Any]:
        answer = yield from send(Request(method, path, **more), self.max_retries)
        return answer.json()


def field_text(value: Any) -> str:
    """A value as a field of a form carries it."""
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ",".join(value)
