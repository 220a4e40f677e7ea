"""Where catalogues are: folders, object stores and hosts, each by the scheme of its URLs.

/music/a.wav, file:///music/a.wav     files of this machine, or ones that every node has
s3://, gs://, az://                   buckets of object stores, with the credentials of their own variables
https://                              hosts that the egress rules allow, for tracks alone
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore

from app.core.egress_rules import EgressForbidden
from app.core.settings import WorkerSettings
from app.core.storage.location import ALLOW_HTTP_VARS, FOLDER, Location, parse_location
from app.core.storage.object_store import connect
from app.core.storage.store_errors import StoreUnavailable, store_errors
from app.egress.url_files import UrlFiles
from model.catalogue.manifest import is_audio, is_table, list_folder, read_manifest
from model.catalogue.output import Output, OutputFolder
from model.catalogue.sources import Unavailable, open_regular
from model.catalogue.tracks import Track
from model.domain import ApexError
from model.training.tables import DataError

#: The schemes of what is read over HTTP.
WEB = ("http", "https")


@dataclass(frozen=True)
class Places:
    """Opens and lists what URLs name. Made anew in every process of Ray's; connections are of a process."""

    urls: UrlFiles
    timeout_s: float

    @classmethod
    def of(cls, settings: WorkerSettings) -> "Places":
        """With the limits of the settings. Every host of the Internet is allowed where the settings name none."""
        rules = settings.egress_rules(settings.audio_url_hosts or ("*",))
        urls = UrlFiles(
            rules,
            settings.max_upload_bytes,
            settings.upload_idle_timeout_s,
            settings.upload_timeout_s,
            settings.egress_ca_file,
        )
        return cls(urls, settings.storage_timeout_s)

    def open(self, uri: str) -> BinaryIO:
        """A file with what a URI names, of this machine and gone once it is closed where it is a copy."""
        scheme = _scheme(uri)
        if not scheme:
            return open_regular(Path(uri))
        if scheme in WEB:
            return _copied(partial(self.urls.copy, uri))
        bucket, key = _bucket_and_key(uri)
        try:
            return fetched(_store(scheme, bucket, self.timeout_s), key)
        except StoreUnavailable as error:
            if error.errno == errno.EACCES:
                raise
            raise Unavailable(f"{scheme}://{bucket}: {error.strerror}") from error

    def resolve(self, base: str, uri: str) -> str:
        """The whole URI of a track in a manifest of the folder or prefix `base`. Raises ValueError for what is none."""
        scheme = _scheme(uri)
        if not scheme:
            return os.path.join(base, uri)
        if scheme == FOLDER:
            return str(parse_location(uri).folder)
        if scheme in WEB:
            try:
                self.urls.rules.check_url(uri)
            except EgressForbidden as error:
                raise ValueError(f"cannot be fetched: {error}") from error
        elif not all(_bucket_and_key(uri)):
            raise ValueError(f"does not name a bucket and an object, as {scheme}://bucket/path does")
        return uri

    def tracks(self, manifest: str) -> Iterator[Track]:
        """The tracks of a table, or of a folder or prefix that is listed. Raises DataError."""
        scheme = _scheme(manifest)
        path = str(parse_location(manifest).folder) if scheme == FOLDER else manifest
        if is_table(without_signature(path)):
            return self._rows(path)
        if scheme in ALLOW_HTTP_VARS:
            return self._listed(manifest)
        if scheme in WEB:
            raise DataError(f"{manifest}: a host cannot be listed; name the tracks in a table")
        return list_folder(Path(path).absolute())

    def _rows(self, manifest: str) -> Iterator[Track]:
        base = manifest.rpartition("/")[0] if _scheme(manifest) else str(Path(manifest).parent.absolute())
        with self._local(manifest) as path:
            yield from read_manifest(path, partial(self.resolve, base), name=without_signature(manifest))

    @contextmanager
    def _local(self, manifest: str) -> Iterator[Path]:
        if not _scheme(manifest):
            yield Path(manifest)
            return
        try:
            self.resolve("", manifest)
            file = self.open(manifest)
        except (OSError, ValueError, ApexError) as error:
            raise DataError(
                f"{without_signature(manifest)}: cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from error
        with file:
            yield Path(f"/proc/self/fd/{file.fileno()}")

    def _listed(self, prefix: str) -> Iterator[Track]:
        scheme = _scheme(prefix)
        bucket, key = _bucket_and_key(prefix)
        try:
            with store_errors():
                for objects in obstore.list(_store(scheme, bucket, self.timeout_s), key or None):
                    for found in filter(is_audio, (found["path"] for found in objects)):
                        yield Track(found.removeprefix(key).lstrip("/"), f"{scheme}://{bucket}/{found}")
        except OSError as error:
            raise DataError(f"{prefix}: cannot be listed: {error.strerror}") from error


@dataclass(frozen=True)
class OutputPrefix:
    """An output in a bucket of an object store."""

    location: Location
    timeout_s: float

    def __str__(self) -> str:
        return self.location.url

    def create(self, name: str, data: bytes) -> bool:
        with store_errors():
            try:
                obstore.put(self._store, name, data, mode="create")
            except AlreadyExistsError:  # perhaps by an earlier try of this, whose answer was lost
                return False
        return True

    def replace(self, name: str, data: bytes | Path) -> None:
        with store_errors():
            obstore.put(self._store, name, data)

    def open(self, name: str) -> BinaryIO:
        return fetched(self._store, name)

    @property
    def _store(self) -> ObjectStore:
        return _connected(self.location, self.timeout_s)


def open_output(out: str, timeout_s: float) -> Output:
    """The output at a path or URL. Raises DataError for a URL that is none."""
    try:
        location = parse_location(out) if _scheme(out) else Location(FOLDER, "", out)
    except ValueError as error:
        raise DataError(f"--out {error}") from error
    if location.folder is None:
        return OutputPrefix(location, timeout_s)
    folder = OutputFolder(location.folder)
    folder.delete_abandoned()
    return folder


def fetched(store: ObjectStore, key: str) -> BinaryIO:
    """A copy of an object, gone once it is closed. Raises `OSError` as `store_errors` does."""

    def copy(sink: BinaryIO) -> None:
        with store_errors():
            for chunk in obstore.get(store, key).stream():
                sink.write(chunk)

    return _copied(copy)


def _copied(copy: Callable[[BinaryIO], None]) -> BinaryIO:
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  (its reader closes it)
    try:
        copy(file)
        file.flush()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def without_signature(uri: str) -> str:
    """A URI without the query of one that is read over HTTP, which is another in each copy of a manifest, or secret."""
    return uri.partition("?")[0] if _scheme(uri) in WEB else uri


def _scheme(uri: str) -> str:
    """The scheme of a URL in lower case; empty for a path."""
    scheme, mark, _ = uri.partition("://")
    return scheme.lower() if mark and scheme.isalnum() else ""


def _bucket_and_key(uri: str) -> tuple[str, str]:
    """Of an object's URL; the key as it stands, without a meaning of %, ? and #. Raises ValueError for other URLs."""
    scheme, _, rest = uri.partition("://")
    if scheme not in ALLOW_HTTP_VARS:
        raise ValueError("must be a path or begin with file:///, s3://, gs://, az:// or https://")
    bucket, _, key = rest.partition("/")
    return parse_location(f"{scheme}://{bucket}").bucket, key


@cache
def _connected(location: Location, timeout_s: float) -> ObjectStore:
    return connect(location, timeout_s)


def _store(scheme: str, bucket: str, timeout_s: float) -> ObjectStore:
    return _connected(Location(scheme, bucket, ""), timeout_s)
