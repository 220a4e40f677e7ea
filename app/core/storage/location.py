"""Where audio is kept, as a URL says it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

FOLDER = "file"
#: Object stores, each by the scheme of its URLs, and the variable that permits to speak HTTP without TLS to it.
ALLOW_HTTP_VARS = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


@dataclass(frozen=True)
class Location:
    """A folder, or a bucket and a prefix in it."""

    scheme: str
    bucket: str
    path: str

    @property
    def folder(self) -> Path | None:
        """The folder; None where the URL is of an object store."""
        return Path(self.path) if self.scheme == FOLDER else None

    @property
    def url(self) -> str:
        """The URL of an object store."""
        return f"{self.scheme}://{self.bucket}/{self.path}"

    def below(self, *names: str) -> "Location":
        """A folder or prefix in this one."""
        return replace(self, path="/".join(filter(None, (self.path, *names))))


def parse_location(url: str) -> Location:
    """Read a URL. Raises `ValueError` with a sentence that does not repeat it, because it may hold a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL") from None
    if "@" in parts.netloc:
        raise ValueError("must hold no credentials: they are read from the store's own variables, such as AWS_*")
    if parts.query or parts.fragment:
        raise ValueError("must have neither a query nor a fragment")
    if parts.scheme == FOLDER:
        return _folder(parts.netloc, unquote(parts.path))
    if parts.scheme in ALLOW_HTTP_VARS:
        return _object_store(parts.scheme, parts.netloc, parts.path.strip("/"))
    raise ValueError("must begin with file:///, s3://, gs:// or az://")


def _folder(host: str, path: str) -> Location:
    if host or not path.startswith("/") or not path.strip("/") or "\0" in path:
        raise ValueError("must name a folder by its whole path, as file:///srv/audio does")
    return Location(FOLDER, "", path)


def _object_store(scheme: str, bucket: str, prefix: str) -> Location:
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"must name a bucket, as {scheme}://bucket/prefix does")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError("must have nothing but letters, digits, '.', '_', '-' and single slashes in its prefix")
    return Location(scheme, bucket, prefix)
