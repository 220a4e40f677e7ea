"""Audio storage in a bucket of S3, Google Cloud Storage, Azure Blob Storage or what speaks like them."""

import io
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore, from_url

from app.core.storage import keys
from app.core.storage.location import ALLOW_HTTP_VARS, Location
from app.core.storage.partial_upload import PartialUpload, storage_problems
from app.core.storage.store_errors import store_errors

log = logging.getLogger(__name__)

#: What S3 takes as the least size of a part but the last. Two parts of an upload are in memory at most.
PART_BYTES = 5 * 1024 * 1024
PARTS_IN_MEMORY = 2
READ_BYTES = 4 * 1024 * 1024
#: How long the store may take for what nobody has to wait for: a probe, a deletion.
PATIENCE_S = 2.0
#: More than fit into any of the times that are given.
MAX_RETRIES = 1000
#: A probe is believed for this long, because each is a request that may be charged for.
PROBE_EVERY_S = 10.0

AUDIO = "audio"
#: An object that is written to learn whether the store takes writes, and what time it is there.
PROBE = "probe"
MARKER = "deployment"
#: An object that there never is: deleting it shows whether that is allowed.
NOTHING = "nothing"


class ObjectStorage:
    """Keeps each upload as an object under a key that no other upload gets.

    A key is thus never written twice, and an object appears whole or not at all. Nothing of the host's clock or disk
    is used. A step that does not succeed within `timeout_s`, retries among it, counts as an outage.
    """

    #: Seldom, because a look costs a request for each thousand of objects, and finds only what was lost an hour ago.
    sweep_every_s = 600.0

    def __init__(self, location: Location, *, timeout_s: float) -> None:
        self._url = location.url
        self._store = connect(location, timeout_s)
        self._impatient = connect(location, PATIENCE_S)
        self._written_at = -math.inf

    def __str__(self) -> str:
        return self._url

    def receive(self, job_id: str) -> "ObjectUpload":
        """An upload that is sent in parts as it comes."""
        return ObjectUpload(self, self._store, keys.unique_key(job_id))

    def open(self, key: str) -> BinaryIO:
        """The bytes of a key, read as they are asked for. `FileNotFoundError` when they are gone."""
        return io.BufferedReader(RangeReader(self._store, path_of(key)), READ_BYTES)

    def delete(self, key: str) -> None:
        try:
            with store_errors():
                obstore.delete(self._impatient, path_of(key))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("audio could not be deleted: %s", error)

    def orphans(self, *, older_than_s: float) -> Iterator[str]:
        """Keys whose objects are older than this by the store's clock. The store itself drops unfinished uploads."""
        with store_errors():
            now = self._now()
            for objects in obstore.list(self._store, AUDIO):
                for found in objects:
                    key = found["path"].removeprefix(f"{AUDIO}/")
                    if keys.is_of_a_job(key) and (now - found["last_modified"]).total_seconds() > older_than_s:
                        yield key

    def has(self, key: str) -> bool:
        """Whether there is an object under a key."""
        try:
            with store_errors():
                obstore.head(self._impatient, path_of(key))
        except FileNotFoundError:
            return False
        return True

    def free_bytes(self) -> float:
        return math.inf

    def check_readable(self) -> None:
        """Raise the `OSError` that reading any key would meet now."""
        self.marker()

    def check_deletable(self) -> None:
        """Raise the `OSError` that deleting any key would meet."""
        with suppress(FileNotFoundError), store_errors():
            obstore.delete(self._impatient, NOTHING)

    def check_writable(self) -> None:
        """At most every PROBE_EVERY_S while the store takes writes."""
        if time.monotonic() - self._written_at > PROBE_EVERY_S:
            with storage_problems(), store_errors():
                self._write_probe()

    def marker(self) -> str | None:
        """The id of the deployment that the prefix belongs to; None while it has no owner."""
        try:
            with store_errors():
                return bytes(obstore.get(self._impatient, MARKER).bytes()).decode(errors="replace")
        except FileNotFoundError:
            return None

    def create_marker(self, deployment_id: str) -> str:
        """Write the id unless there is one; returns what is there afterwards."""
        with store_errors():
            try:
                obstore.put(self._impatient, MARKER, deployment_id.encode(), mode="create")
            except AlreadyExistsError:
                log.debug("the storage has an owner")
        return self.marker() or deployment_id

    def holds(self, key: str, n_bytes: int) -> bool:
        """Whether there are so many bytes under a key."""
        try:
            with store_errors():
                return obstore.head(self._impatient, path_of(key))["size"] == n_bytes
        except OSError:
            return False

    def _now(self) -> datetime:
        """The time by the clock of the store, which the times of objects are by."""
        self._write_probe()
        return obstore.head(self._impatient, PROBE)["last_modified"]

    def _write_probe(self) -> None:
        obstore.put(self._impatient, PROBE, b"")
        self._written_at = time.monotonic()


class ObjectUpload(PartialUpload):
    """An upload of several parts, or of one request when it is small. Completing it is the commit."""

    def __init__(self, storage: ObjectStorage, store: ObjectStore, key: str) -> None:
        super().__init__(key)
        self._storage = storage
        self._store = store
        self._sent = False

    def _open(self) -> None:
        self._writer = obstore.open_writer(
            self._store, path_of(self.key), buffer_size=PART_BYTES, max_concurrency=PARTS_IN_MEMORY
        )

    def _write(self, block: bytearray) -> None:
        with store_errors():
            self._writer.write(block)

    def _commit(self) -> None:
        """Complete the upload. When only the answer to that was lost, the object is there, and nobody else's."""
        self._sent = True
        try:
            with store_errors():
                self._writer.close()
        except OSError:
            if not self._storage.holds(self.key, self.size_bytes):
                raise

    def _discard(self) -> None:
        if self._sent:
            self._storage.delete(self.key)
            return
        try:
            with store_errors():
                self._writer.__exit__(InterruptedError, None, None)  # the only way to have it abort
        except OSError as error:
            log.warning("an upload could not be aborted: %s", error)


class RangeReader(io.RawIOBase):
    """An object as a file: its beginning is fetched at once, the rest in requests of as many bytes as are read."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store = store
        self._path = path
        self._at = 0
        with store_errors():
            found = obstore.get(store, path, options={"range": (0, READ_BYTES)})
            self._size, self._first = found.meta["size"], bytes(found.bytes())

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(READ_BYTES) or b"", b""))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        block = memoryview(self._first)[self._at : end] or self._fetch(end)
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)

    def _fetch(self, end: int) -> memoryview:
        with store_errors():
            return memoryview(obstore.get_range(self._store, self._path, start=self._at, end=end))


def path_of(key: str) -> str:
    """Where a key's object is or will be. Raises `ValueError` for what is no key."""
    return f"{AUDIO}/{keys.checked(key)}"


def connect(location: Location, timeout_s: float) -> ObjectStore:
    """A client with the credentials of the environment. Nothing is sent yet."""
    # A request may stall for a third of the time. The last try begins before two thirds are over.
    try_s, retry_s = timeout_s / 3, timeout_s * 2 / 3
    # Options that are given here replace all those of the environment.
    allow_http = os.environ.get(ALLOW_HTTP_VARS[location.scheme], "").lower() in ("1", "true")
    with store_errors():
        return from_url(
            location.url,
            client_options={
                "allow_http": allow_http,
                "connect_timeout": timedelta(seconds=min(try_s, PATIENCE_S)),
                "timeout": timedelta(seconds=try_s),
            },
            retry_config={"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=retry_s)},
        )
