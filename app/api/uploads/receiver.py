"""Uploads: reads one track, or the several of a batch, from a request's body into storage, as the bytes arrive.

No file is held in memory or written twice. The client's file names and media types are neither trusted nor stored.
Nothing here creates a job, or reads more of the audio than its first bytes.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from app.api.errors import invalid_request
from app.api.query import refuse_query
from app.api.schemas.options import BatchOptions, TrackOptions, UrlItem
from app.api.ttl_cache import TtlCache
from app.api.uploads.multipart import BATCH_FORM, FRAMING_BYTES, Fields, MultipartReader, Sink
from app.core.jobs.models import new_job_id
from app.core.problems import Problem
from app.core.storage.partial_upload import PartialUpload, storage_problems
from app.core.storage.protocol import Storage
from app.core.storage.room import Reservation, Reservations
from model.audio.containers import CONTAINERS, HEAD_BYTES, SNIFF_BYTES, begins_as, detect_container, is_other_file

WRITE_BYTES = 256 * 1024
#: Threads that write at a time. They have a limit of their own, so that a slow disk does not block other requests.
WRITERS = 8

FORM_TYPE = "multipart/form-data"
#: How a raw body may be declared, or not at all. The last is what `curl --data-binary` says of any file.
RAW_TYPES = ("audio/*", "video/*", "application/ogg", "application/octet-stream", "application/x-www-form-urlencoded")
BODY_TYPES = (FORM_TYPE, *RAW_TYPES)
CONTAINER_NAMES = [container.name for container in CONTAINERS]

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True)
class UploadLimits:
    """Limits of one upload."""

    max_bytes: int
    idle_timeout_s: float
    timeout_s: float


@dataclass(frozen=True)
class UploadMetadata:
    """What the headers and the query say of a body. `boundary` is a form's, None for a raw body."""

    boundary: bytes | None
    options: TrackOptions


@dataclass(frozen=True)
class Upload:
    """A track received completely for a job; its last bytes are not yet flushed, and nothing is committed."""

    job_id: str
    part: PartialUpload
    container: str
    options: TrackOptions
    upload_s: float


@dataclass(frozen=True)
class BatchFile:
    """One track of a batch: received, to be fetched, or refused with a problem.

    `filename` may be shown to its sender only; `external_id` is the client's own name for this track.
    """

    filename: str | None
    outcome: Upload | UrlItem | Problem
    external_id: str | None = None


@dataclass(frozen=True)
class BatchUpload:
    """The tracks of a batch, received completely but not committed, in the order in which they were sent."""

    options: BatchOptions
    files: Sequence[BatchFile]


class UploadReceiver:
    """Reads bodies: `async with receiver.receive(...) as upload:`. What the block does not commit is deleted."""

    def __init__(self, storage: Storage, limits: UploadLimits, reservations: Reservations | None = None) -> None:
        self.storage = storage
        self.limits = limits
        self._writers = CapacityLimiter(WRITERS)
        self._free_bytes = TtlCache(self._read_free_bytes)
        self.reservations = reservations or Reservations()

    def check_headers(self, request: Request) -> UploadMetadata:
        """What a request says of its body, before the body is read. Raises when it cannot be accepted."""
        options = parse_options(query_fields(request), TrackOptions)
        boundary = form_boundary(request)
        check_body_headers(request, self.limits.max_bytes, framing_bytes=0 if boundary is None else FRAMING_BYTES)
        return UploadMetadata(boundary, options)

    @asynccontextmanager
    async def receive(self, request: Request, metadata: UploadMetadata, *, job_id: str) -> AsyncIterator[Upload]:
        """Read the body of a request whose headers were checked. Raises `Problem`s, and `ClientDisconnect`."""
        started = time.monotonic()
        fields = query_fields(request)
        async with self._room(request, self.limits.max_bytes) as room, self._open(job_id) as audio:
            body: Body = RawBody(audio)
            if metadata.boundary is not None:
                body = MultipartReader(metadata.boundary, fields=fields, open_file=lambda _filename: audio.feed)
            await self._read(request, body, [audio], room, max_bytes=self.limits.max_bytes)
            yield audio.upload(parse_options(fields, TrackOptions), round(time.monotonic() - started, 3))

    def check_batch_headers(self, request: Request) -> UploadMetadata:
        """The same for a form of several files."""
        boundary = form_boundary(request)
        if boundary is None:
            raise Problem("unsupported_media_type", "A batch is sent as a form.", accepted=[FORM_TYPE])
        refuse_query(request, "A batch has its fields in the form.")
        check_body_headers(request, self.max_batch_bytes, framing_bytes=FRAMING_BYTES)
        return UploadMetadata(boundary, TrackOptions())

    @asynccontextmanager
    async def receive_batch(self, request: Request, boundary: bytes) -> AsyncIterator[BatchUpload]:
        """Read a form of several files. A refused file leaves the others as they are; an unreadable form is raised."""
        started = time.monotonic()
        fields, writers = Fields(BATCH_FORM), list[ErrorCapturingWriter]()
        async with AsyncExitStack() as opened:
            room = await opened.enter_async_context(self._room(request, self.max_batch_bytes))

            def open_file(filename: str | None) -> Sink:
                audio = self._writer(new_job_id())
                opened.push_async_callback(audio.discard)
                writers.append(ErrorCapturingWriter(filename, audio))
                return writers[-1].feed

            body = MultipartReader(boundary, fields=fields, open_file=open_file)
            await self._read(request, body, writers, room, max_bytes=self.max_batch_bytes)
            options = parse_options(fields, BatchOptions)
            upload_s = round(time.monotonic() - started, 3)
            yield BatchUpload(options, [await writer.finish(upload_s) for writer in writers])

    @property
    def max_batch_bytes(self) -> int:
        return BATCH_FORM.max_files * self.limits.max_bytes

    @asynccontextmanager
    async def _room(self, request: Request, max_bytes: int) -> AsyncIterator[Reservation]:
        """Room for a body whose headers were checked: for the length that it declares, or the most that it may have."""
        declared = request.headers.get("content-length")
        n_bytes = int(declared) if declared else max_bytes
        free_bytes = await self._free_bytes.get_async(self._writers)
        # Reserved before it is looked at: of two processes that do so at the same time, neither overlooks the other.
        with self.reservations.reserve(n_bytes) as reservation:
            # One of the largest uploads more: for other hosts, and for what has come since the disk was looked at.
            if free_bytes - self.reservations.total_bytes <= self.limits.max_bytes:
                raise Problem("storage_full")
            yield reservation

    def _read_free_bytes(self) -> float:
        with storage_problems():
            return self.storage.free_bytes()

    @asynccontextmanager
    async def _open(self, job_id: str) -> AsyncIterator["AudioWriter"]:
        audio = self._writer(job_id)
        try:
            yield audio
        finally:
            await audio.discard()

    def _writer(self, job_id: str) -> "AudioWriter":
        part = self.storage.receive(job_id)
        return AudioWriter(job_id, part, max_bytes=self.limits.max_bytes, writers=self._writers)

    async def _read(
        self, request: Request, body: "Body", writers: Sequence["Writer"], room: Reservation, *, max_bytes: int
    ) -> None:
        chunks = body_chunks(request, idle_timeout_s=self.limits.idle_timeout_s, max_bytes=max_bytes + FRAMING_BYTES)
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                async for chunk in chunks:
                    body.feed(chunk)
                    room.use(len(chunk))
                    for writer in writers:
                        await writer.drain()
        except TimeoutError:
            raise Problem("upload_timeout", f"The upload took longer than {self.limits.timeout_s:g} s.") from None
        body.finish()


class AudioWriter:
    """Writes the audio of one upload in large blocks; counts its bytes, and detects the container from the first."""

    def __init__(self, job_id: str, part: PartialUpload, *, max_bytes: int, writers: CapacityLimiter) -> None:
        self._job_id = job_id
        self._part = part
        self._max_bytes = max_bytes
        self._writers = writers
        self._container: str | None = None
        self._detect_at_bytes = SNIFF_BYTES

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes. Raises as soon as they are too many, or their beginning is that of no accepted container."""
        self._part.append(data)
        if self._part.size_bytes > self._max_bytes:
            raise too_large(self._max_bytes, f"The limit is {self._max_bytes} bytes; the file has more.")
        if self._container is None and self._part.size_bytes >= self._detect_at_bytes:
            self._detect()

    async def drain(self) -> None:
        """Write what is buffered, once it is enough to be worth a thread."""
        if len(self._part.pending) >= WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what is buffered."""
        await to_thread.run_sync(self._part.flush, limiter=self._writers)

    async def discard(self) -> None:
        """Drop what was written, unless it was committed; to the end, even when the request is cancelled."""
        if self._part.holds_storage:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._part.discard, limiter=self._writers)

    def upload(self, options: TrackOptions, upload_s: float) -> Upload:
        """What was received, once that is complete; raises when it is of no accepted container."""
        container = self._container or require_container(self._part.pending)
        return Upload(self._job_id, self._part, container, options, upload_s)

    def _detect(self) -> None:
        """Look at the first bytes, twice at most: soon, and once as many are there as junk may stand before audio."""
        head = bytes(self._part.pending[:SNIFF_BYTES])
        self._container = begins_as(head)
        if self._container is None and (is_other_file(head) or self._part.size_bytes >= HEAD_BYTES):
            self._container = require_container(self._part.pending)
        self._detect_at_bytes = HEAD_BYTES


class ErrorCapturingWriter:
    """Writes the audio of one file of several. A problem with it is kept, and the rest of the file ignored."""

    def __init__(self, filename: str | None, audio: AudioWriter) -> None:
        self._filename = filename
        self._audio = audio
        self._problem: Problem | None = None

    def feed(self, data: bytes | memoryview) -> None:
        if self._problem is None:
            with self._capturing_problem():
                self._audio.feed(data)

    async def drain(self) -> None:
        if self._problem is None:
            with self._capturing_problem():
                await self._audio.drain()
        if self._problem is not None:
            await self._audio.discard()

    async def finish(self, upload_s: float) -> BatchFile:
        """Write the rest; returns the received file or its problem."""
        return BatchFile(self._filename, self._problem or await self._outcome(upload_s))

    async def _outcome(self, upload_s: float) -> Upload | Problem:
        try:
            upload = self._audio.upload(TrackOptions(), upload_s)
            await self._audio.flush()
            return upload
        except Problem as problem:
            return problem

    @contextmanager
    def _capturing_problem(self) -> Iterator[None]:
        try:
            yield
        except Problem as problem:
            self._problem = problem.with_traceback(None)  # which holds this writer, and all that it wrote


class Writer(Protocol):
    """A writer of one file."""

    async def drain(self) -> None:
        """Write what is buffered, once it is enough to be worth a thread."""


class Body(Protocol):
    """A body of either kind: a form, or the file itself."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""

    def finish(self) -> None:
        """End the body. Raises when something is missing from it."""


@dataclass(frozen=True)
class RawBody:
    """The body is the file."""

    audio: AudioWriter

    def feed(self, chunk: bytes) -> None:
        self.audio.feed(chunk)

    def finish(self) -> None:
        """Nothing can be missing: an empty file is refused because it has no container."""


async def body_chunks(request: Request, *, idle_timeout_s: float, max_bytes: int) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises when the client stalls or disconnects, or sends more than `max_bytes`."""
    more, remaining_bytes = True, max_bytes
    while more:
        try:
            async with asyncio.timeout(idle_timeout_s):
                message = await request.receive()
        except TimeoutError:
            raise Problem("upload_timeout", f"Nothing came for {idle_timeout_s:g} s.") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more, chunk = message.get("more_body", False), message.get("body", b"")
        remaining_bytes -= len(chunk)
        if remaining_bytes < 0:
            raise too_large(max_bytes, f"The whole body may have {max_bytes} bytes; it has more.")
        yield chunk


def form_boundary(request: Request) -> bytes | None:
    """The boundary of a form, None for a raw body; raises for a body that is neither."""
    media_type, parameters = parse_options_header(request.headers.get("content-type"))
    if media_type == FORM_TYPE.encode():
        boundary = parameters.get(b"boundary", b"").strip()
        if not boundary:
            raise Problem("malformed_multipart", "The Content-Type header names no boundary.")
        return boundary
    if not media_type or any(fnmatchcase(media_type.decode("latin-1"), accepted) for accepted in RAW_TYPES):
        return None
    raise Problem("unsupported_media_type", "The body is neither a form nor a raw file.", accepted=list(BODY_TYPES))


def check_body_headers(request: Request, max_bytes: int, *, framing_bytes: int = 0) -> None:
    """Refuse a body by its headers: for a Content-Encoding, or a Content-Length over the limit.

    The length may be absent. The bytes that arrive are counted anyway.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        detail = "The body has a Content-Encoding; this server takes bodies as they are, without one."
        raise Problem("unsupported_media_type", detail, headers={"Accept-Encoding": "identity"}, accepted=["identity"])
    declared = request.headers.getlist("content-length")
    if not declared:
        return
    if len(declared) > 1 or not re.fullmatch(r"[0-9]{1,18}", declared[0]):
        raise Problem("bad_header", "Content-Length must be one decimal number.")
    if int(declared[0]) > max_bytes + framing_bytes:
        raise too_large(max_bytes, f"The limit is {max_bytes} bytes; the request declares {int(declared[0])}.")


def too_large(max_bytes: int, detail: str) -> Problem:
    return Problem("payload_too_large", detail, limit_bytes=max_bytes)


def require_container(data: bytearray) -> str:
    """The container whose first bytes these are; raises `unsupported_media_type` when there is none."""
    container = detect_container(bytes(data[:HEAD_BYTES]))
    if container is None:
        detail = None if data else "The file is empty."
        raise Problem("unsupported_media_type", detail, accepted=CONTAINER_NAMES)
    return container


def query_fields(request: Request, fields: Fields | None = None) -> Fields:
    """The options in the query string: those of a track, or those that `fields` takes."""
    fields = Fields() if fields is None else fields
    for name, text in request.query_params.multi_items():
        fields.add(name, text)
    return fields


def parse_options(fields: Fields, options: type[Options]) -> Options:
    """The fields as options. Raises one problem that points at every bad field."""
    try:
        return options.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(error) from None
