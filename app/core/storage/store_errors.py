"""Errors of an object store, as errors of the operating system: what a full or absent folder would raise."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

#: A missing bucket is no missing object: nothing can be said of its objects.
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_REFUSALS = (PermissionDeniedError, UnauthenticatedError)
#: The code of an error in an answer of S3, Google or Azure.
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_MAX_TEXT = 200


class StoreUnavailable(OSError):
    """The store could not be reached, refused, or gave an answer that makes no sense."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise `FileNotFoundError` for a missing object, and `StoreUnavailable` for all else that the store reports."""
    try:
        yield
    except StoreUnavailable:
        raise
    except FileNotFoundError as error:
        if found := _NO_BUCKET.search(str(error)):
            raise StoreUnavailable(errno.ENODEV, f"there is no such bucket ({found[0]})") from None
        raise FileNotFoundError(errno.ENOENT, "there is no such object") from None
    except _REFUSALS as error:
        raise StoreUnavailable(errno.EACCES, _summary(error)) from None
    except (BaseError, OSError) as error:  # an open writer raises the latter
        raise StoreUnavailable(errno.EIO, _summary(error)) from None


def _summary(error: Exception) -> str:
    """What happened, in a line. Without queries, which may hold a signature; without the answer, but for its code."""
    text = str(error)
    line = re.sub(r"\?\S+", "?…", text.partition("\n")[0].partition("<")[0]).rstrip(" :")
    code = _CODE.search(text)
    return f"{line[:_MAX_TEXT]} ({code[1]})" if code else line[:_MAX_TEXT]
