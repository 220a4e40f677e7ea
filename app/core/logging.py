"""Logs on stderr: lines for people on a terminal, else a JSON object a line, with the id of the request.

No header, query, file name or body is ever logged, so there is nothing to redact.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from app.core.printable import printable

#: The id of the request that this task or thread works for. The middleware and the worker set it.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
#: The id of the distributed trace that the request is part of, when its sender named one.
TRACE_ID: ContextVar[str | None] = ContextVar("trace_id", default=None)

EXCEPTION_CHARS = 16_000

#: What every record has; `color_message` is uvicorn's second copy of its message.
_PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message, request id and trace id, then whatever `extra=` gave, then a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = shortened(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Writes local time, level, logger and message, then the same fields as `name=value`, then a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).isoformat(" ", timespec="seconds")
        fields = " ".join(f"{name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{time} {record.levelname:7} {record.name}: {printable(record.getMessage())}  {fields}".rstrip()
        if not record.exc_info:
            return line
        traceback = shortened(self.formatException(record.exc_info)).split("\n")
        return "\n".join([line, *(f"  {printable(each)}" for each in traceback)])


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The ids of the request and what `extra=` gave, without what is None."""
    extra = {name: value for name, value in vars(record).items() if name not in _PLAIN_FIELDS}
    fields = {"request_id": REQUEST_ID.get(), "trace_id": TRACE_ID.get(), **extra}
    return {name: value for name, value in fields.items() if value is not None}


def _quoted(value: object) -> str:
    """A value for a line of `name=value`; in quotes where it would not be told from what follows."""
    text = str(value)
    return text if text and not set(text) & set(' "=') and text.isprintable() else json.dumps(text)


@contextmanager
def logged_as(request_id: str | None, trace_id: str | None) -> Iterator[None]:
    """Put these ids into every line that is logged inside."""
    tokens = REQUEST_ID.set(request_id), TRACE_ID.set(trace_id)
    try:
        yield
    finally:
        REQUEST_ID.reset(tokens[0])
        TRACE_ID.reset(tokens[1])


def shortened(text: str) -> str:
    """A text without its middle, when it is long: an error may carry megabytes in its message."""
    return text if len(text) <= EXCEPTION_CHARS else f"{text[: EXCEPTION_CHARS // 2]} … {text[-EXCEPTION_CHARS // 2 :]}"


def configure_logging(level: str, line_format: str) -> None:
    """Send every log line of this process to stderr. Called once, by a process's entry point.

    line_format : json, text, or auto for text where stderr is a terminal
    """
    handler = logging.StreamHandler(sys.stderr)
    as_text = line_format == "text" or (line_format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Its warnings say byte by byte what a hostile form did; the 400 says it once.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # These log the URLs that are called, and what was answered: both may hold secrets.
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)
