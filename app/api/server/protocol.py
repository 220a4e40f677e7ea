"""uvicorn's HTTP protocol, with a deadline and a size limit for a request's head, ignoring offers of an upgrade.

Bodies have their limits in `app.api.uploads.receiver`.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import cast

import httptools
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.core.problems import MEDIA_TYPE, problem_object, under

#: A request's line and headers must have arrived this long after the connection was made or their first byte came.
HEAD_TIMEOUT_S = 10.0
#: A head longer than this is refused; at most this and one read are buffered.
MAX_HEAD_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    """Closes the connection of a client that does not send a whole head in time, and refuses a head that is too long.

    A request that offers an upgrade (`Upgrade: h2c`, `websocket`, anything) is served as if it did not (RFC 9110
    7.8). The parser takes what follows the head of such a request for another protocol's, and drops the body; so it
    is made to read the head again without the offer, and then the rest.
    """

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
        if not self._upgrade_offered():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._upgrade_offered():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("The request is not valid HTTP/1.1.")
        if self._deadline is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")

    def send_400_response(self, msg: str) -> None:
        """Answer what never becomes a request, as the application answers its own, and hang up."""
        app = cast(FastAPI, self.config.app)
        body = json.dumps(under(app.state.root_path, problem_object("malformed_request", msg))).encode()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (MEDIA_TYPE.encode(), len(body)) + body)
        self.transport.close()

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = new_parser(self)

    def _upgrade_offered(self) -> bool:
        # A tunnel (CONNECT) is an upgrade to the parser, too. uvicorn refuses its target.
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        headers = ((name, value) for name, value in self.headers if name != b"upgrade")
        return head(self.parser.get_method(), self.url, version, headers)

    def _await_head(self) -> None:
        self._head_is_over()
        self._deadline = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _head_is_over(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline, self._head_bytes = None, 0


def new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """A parser as uvicorn makes it. One that saw `Connection: Upgrade, close` reads nothing more."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def head(method: bytes, target: bytes, version: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request's line and headers as they go over the wire."""
    lines = [b"%s %s HTTP/%s" % (method, target, version), *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join([*lines, b"", b""])
