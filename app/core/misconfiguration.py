"""What a process does that cannot work as it is configured: it ends with one sentence and a status of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from app.core.printable import printable
from model.domain import ApexError

#: A process that ends with this status cannot work as it is configured: starting it again would not help.
EXIT_MISCONFIGURED = 78


class Misconfigured(ApexError):
    """A setting, or a file or folder that it names, cannot be used. The text says which, and shows no secret."""


@contextmanager
def named_by_settings() -> Iterator[None]:
    """Raise `Misconfigured` where the block, part of a start, meets a file or folder that cannot be used."""
    try:
        yield
    except OSError as error:
        raise Misconfigured(": ".join(str(part) for part in (error.filename, error.strerror) if part)) from error


@contextmanager
def ends_if_misconfigured() -> Iterator[None]:
    """End this process with a sentence on stderr and EXIT_MISCONFIGURED where the block raises `Misconfigured`."""
    try:
        yield
    except Misconfigured as error:
        end(str(error), status=EXIT_MISCONFIGURED)


def end(message: str, *, status: int) -> NoReturn:
    """Say on stderr why this process ends, and end it."""
    sys.stderr.write(f"apex: {printable(message)}\n")
    sys.exit(status)
