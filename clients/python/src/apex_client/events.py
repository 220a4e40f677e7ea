"""Server-sent events of jobs and batches: followed to the end, over connections that break."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import httpx

from apex_client.calls import Call, Emit, Flow, Lines, Pause, Request, pause_s, send
from apex_client.errors import ConnectionFailed
from apex_client.types import Batch, Job, ProgressEvent

#: Events after which no more follow.
ENDS = ("job.succeeded", "job.failed", "job.canceled", "batch.completed")


@dataclass(frozen=True)
class StreamEvent:
    """What happened: `data` is the progress in a `job.progress`, else the whole job or batch.

    Give `id` as `last_event_id` to go on after this event. Some events have none.
    """

    name: str
    data: Job | ProgressEvent | Batch
    id: str | None = None


def follow(path: str, last_event_id: str | None, max_retries: int) -> Flow[StreamEvent]:
    """The events at a path, from the one after `last_event_id`.

    Goes on after the last one that was read where the connection breaks. Raises `ApiError`, and `ConnectionFailed` when
    so many tries bring no event.
    """
    n_failures, last_id = 0, last_event_id
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        answer = yield from send(Request("GET", path, headers=headers, stream=True), max_retries)
        if answer.status_code == httpx.codes.NO_CONTENT:
            return
        lines, broken = Lines(), ""
        try:
            while event := (yield from _next_event(lines)):
                yield Emit(event)
                n_failures, last_id = 0, event.id or last_id
                if event.name in ENDS:
                    return
        except httpx.TransportError as error:
            broken = str(error)
        if n_failures == max_retries:
            raise ConnectionFailed(broken or "the events end again and again before the last one")
        yield Pause(pause_s(n_failures, None))
        n_failures += 1


def _next_event(lines: Lines) -> Call[StreamEvent | None]:
    """The next event, None at the end of the answer. One that is cut off counts for nothing."""
    fields: dict[str, str] = {}
    while (line := (yield from lines.next())) is not None:
        text = line.decode().removesuffix("\r")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            return _event(fields)
        else:
            fields = {}
    return None


def _event(fields: Mapping[str, str]) -> StreamEvent:
    data = cast(Job | ProgressEvent | Batch, json.loads(fields["data"]))
    return StreamEvent(fields.get("event", "message"), data, fields.get("id"))
