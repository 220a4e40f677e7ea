"""Calls without input or output: generators that yield what is to be sent, read, and how long to pause.

Both clients drive the same generators, one with blocking calls, the other with awaited ones.
"""

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, BinaryIO, Generic, TypeVar

import httpx

from apex_client.errors import ApiError, ConnectionFailed

T = TypeVar("T")

#: A path, the bytes themselves, or an open binary file, which is read from where it is.
Track = str | PathLike[str] | bytes | BinaryIO

CONNECT_S, IDLE_S = 10.0, 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0


@dataclass(frozen=True)
class Request:
    """What is to be sent, as often as needed. `wait_s` is how long the service may take its time.

    The body of the answer is read at once, or with `stream` by the call, part by part.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    fields: Mapping[str, str] = field(default_factory=dict)
    tracks: Sequence[tuple[str, Track]] = ()
    wait_s: float = 0.0
    stream: bool = False

    @contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """The arguments of `httpx.Client.request`; opens the tracks, and rewinds those that are open already."""
        with _Tracks() as tracks:
            yield {
                "params": dict(self.params),
                "headers": dict(self.headers),
                "json": self.json,
                "data": dict(self.fields) or None,
                "files": [(name, ("track", tracks.open(track))) for name, track in self.tracks] or None,
                "timeout": httpx.Timeout(IDLE_S + self.wait_s, connect=CONNECT_S),
            }


@dataclass(frozen=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True)
class Read:
    """Read the next bytes of the answer that is open; its outcome is None where there are no more."""


@dataclass(frozen=True)
class Emit(Generic[T]):
    """Hand this to the caller, who may never ask for the next."""

    value: T


Step = Request | Pause | Read
Outcome = httpx.Response | httpx.TransportError | bytes | None
Call = Generator[Step, Outcome, T]
#: A call that has many results, one after the other.
Flow = Generator[Step | Emit[T], Outcome, None]


def send(request: Request, max_retries: int) -> Call[httpx.Response]:
    """The answer to a request; it is repeated while it fails for a reason that may pass.

    Raises `ApiError` or `ConnectionFailed`.
    """
    starts = [track.tell() if hasattr(track, "tell") else 0 for _, track in request.tracks]
    for attempt in range(max_retries + 1):
        outcome = yield request
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        error = ApiError(outcome) if isinstance(outcome, httpx.Response) else ConnectionFailed(str(outcome))
        if attempt == max_retries or (isinstance(error, ApiError) and not error.retryable):
            raise error from (outcome if isinstance(outcome, Exception) else None)
        for start, (_, track) in zip(starts, request.tracks, strict=True):
            if hasattr(track, "seek"):
                track.seek(start)
        yield Pause(pause_s(attempt, getattr(error, "retry_after_s", None)))
    raise AssertionError("unreachable")


class Lines:
    """The lines of the answer that is open, as they come, each without its break.

    Only a line feed ends a line: text may have characters that `str.splitlines` takes for breaks.
    """

    def __init__(self) -> None:
        self._rest = b""

    def next(self) -> Call[bytes | None]:
        """The next line, None after the last. Raises `httpx.TransportError` where the answer breaks off."""
        while b"\n" not in self._rest:
            outcome = yield Read()
            if isinstance(outcome, httpx.TransportError):
                raise outcome
            if not isinstance(outcome, bytes):
                last, self._rest = self._rest, b""
                return last or None
            self._rest += outcome
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def pause_s(attempt: int, asked_s: float | None) -> float:
    """What the service asks for; else twice as long each time, apart from other clients that were refused too."""
    if asked_s is not None:
        return min(asked_s, LONGEST_PAUSE_S)
    return min(FIRST_PAUSE_S * 2.0**attempt, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)


class _Tracks:
    """Files that are closed together; those of the caller stay open."""

    def __init__(self) -> None:
        self._opened: list[BinaryIO] = []

    def __enter__(self) -> "_Tracks":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._opened:
            file.close()

    def open(self, track: Track) -> bytes | BinaryIO:
        if not isinstance(track, (str, PathLike)):
            return track
        self._opened.append(open(track, "rb"))
        return self._opened[-1]
