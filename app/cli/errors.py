"""How a command ends when something expected goes wrong: one sentence on stderr and an exit status, no traceback."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import NoReturn, ParamSpec

from app.core.misconfiguration import end
from model.domain import ApexError

INTERRUPTED = 130  # what a shell expects after Ctrl-C

Options = ParamSpec("Options")


def fail(message: str, *, status: int = 1) -> NoReturn:
    """Print why the command ends on stderr, and end it."""
    end(message, status=status)


def training_command(command: Callable[Options, None]) -> Callable[Options, None]:
    """Decorate a command of the extra `train`, which imports the extra's packages in its body.

    Ctrl-C, a package that is not installed and a failed file operation end it with a sentence.
    """

    @wraps(command)
    def guarded(*arguments: Options.args, **options: Options.kwargs) -> None:
        # Threads that spin while they wait slow training tenfold where anything else runs. Read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with _one_sentence(command.__name__.replace("_", " ")):
            command(*arguments, **options)

    return guarded


@contextmanager
def _one_sentence(command: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted; what was done is kept, and the same command goes on from there", status=INTERRUPTED)
    except ModuleNotFoundError as error:
        raise ApexError(
            f"'apex {command}' needs the package {error.name}: pip install -c constraints.txt -e '.[worker,train]'"
        ) from error
    except OSError as error:
        parts = [str(part) for part in (error.filename, error.strerror) if part]
        raise ApexError(": ".join(parts) or str(error)) from error
