"""The HTTP protocol: uvicorn's, which waits for ever for the end of a request's head, with a deadline and a limit.

Bodies have theirs in `app.api.uploads.receiver`.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: A request's line and headers must be there this long after the connection or after their own first byte.
HEAD_TIMEOUT_S = 10.0
#: A head longer than this is refused. More than one read's worth is never held.
MAX_HEAD_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    """Hangs up on a client that does not send a whole head in time, and refuses a head without an end."""

    head_timeout_s = HEAD_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_is_over()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")

    def _await_head(self) -> None:
        self._head_is_over()
        self._deadline = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _head_is_over(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline, self._head_bytes = None, 0
