"""A connection's transport that can be closed in two steps."""

import asyncio
from collections.abc import Callable
from typing import Any


class StagedTransport:
    """Stands in for the event loop's transport. How `close` ends it, the callable decides.

    Bytes of the client that are there when a connection is closed, or come later, are answered with a reset. That
    takes from the client what it has not yet read of its answer. So where it may be sending, the server first ends
    its own side, and reads on for a time (RFC 9112, 9.6).
    """

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self._transport = transport
        self._on_close: Callable[[], None] | None = on_close
        self._half_closed = False
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self._half_closed or self._transport.is_closing()

    def close(self) -> None:
        """End the connection in either way, unless that has begun."""
        if self._on_close and not self.is_closing():
            self._on_close()

    def half_close(self) -> None:
        """End the server's side once all that was written is sent."""
        self._half_closed = True
        self._transport.write_eof()

    def close_fully(self) -> None:
        """End both sides once all that was written is sent. Nothing more is read."""
        self._transport.close()

    def release(self) -> None:
        """Forget the callable, which would keep its connection in memory."""
        self._on_close = None
