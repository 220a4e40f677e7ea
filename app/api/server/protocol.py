"""uvicorn's HTTP protocol, in which every phase of a connection has a deadline and a limit of bytes.

It ignores offers of an upgrade, drops trailers, and reads a few requests ahead of the one that is answered. A client
that is answered before it has sent everything has time to read that answer.
"""

import json
import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import httptools
from fastapi import FastAPI
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.server.connections import Connections, Phase
from app.api.server.transport import StagedTransport
from app.core.problems import MEDIA_TYPE, PROBLEMS, problem_object, under

log = logging.getLogger(__name__)

#: A head longer than this is refused; at most this and two reads are buffered.
MAX_HEAD_BYTES = 64 * 1024
#: Bytes that may follow one another and belong to neither head nor body: trailers, and what stands around chunks.
MAX_FRAMING_BYTES = 8 * 1024
#: Requests that may wait in one connection for the answer to the one before them.
MAX_PIPELINED = 32
#: Outside of a body so much is parsed at a time: no more heads than may wait fit in. While any of them waits, the rest
#: is kept as it came. Only what follows a body in the same read can hold more, and is refused then.
PARSED_BYTES = 512
#: With so much kept nothing more is read, though a request that is answered waits for its client.
MAX_UNPARSED_BYTES = 256 * 1024
#: So much is read and dropped of what comes after the last answer: what may be under way between two hosts, and more.
MAX_DISCARDED_BYTES = 16 * 1024 * 1024

#: A target with its scheme and host, as for a proxy.
_ABSOLUTE = re.compile(rb"[^/]+://(?P<authority>[^/?#]*)")


class RequestRefused(Exception):
    """What the client sends is over a limit; the text says which."""


class Trailers:
    """Stands in for the list of headers once the head is complete: counts what would be added, and keeps nothing.

    uvicorn would add trailers to the headers of a request that is being served already.
    """

    def __init__(self) -> None:
        self.n_bytes = 0

    def append(self, field: tuple[bytes, bytes]) -> None:
        name, value = field
        self.n_bytes += len(name) + len(value)
        if self.n_bytes > MAX_FRAMING_BYTES:
            raise RequestRefused("The trailers of the request are too long.")


class Protocol(HttpToolsProtocol):
    """One connection. Its deadlines are looked at by `Connections.sweep_forever`.

    A request that offers an upgrade (`Upgrade: h2c`, `websocket`, anything) is served as if it did not (RFC 9110
    7.8). The parser takes what follows the head of such a request for another protocol's, and drops the body; so it
    is made to read the head again without the offer, and then the rest.
    """

    def __init__(self, *, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.open_connections = connections
        self.limits = connections.limits
        self._deadlines: dict[Phase, float] = {}
        #: The request that is being answered; `cycle` is the one that was read last.
        self._answered: RequestResponseCycle | None = None
        self._trailers = Trailers()
        self._body_bytes = 0
        #: Read since the last byte of a body or the end of a head or a message.
        self._framing_bytes = 0
        self._unparsed = memoryview(b"")
        self._stopped_reading = False
        #: How much is read and dropped before the connection is closed; None until its last answer is there.
        self._bytes_to_discard: int | None = None

    # The connection

    def connection_made(self, transport: Any) -> None:
        self._staged = StagedTransport(transport, self._close)
        super().connection_made(cast(Any, self._staged))
        if self.open_connections.admit(self):
            self._begin(Phase.HEAD)
        else:
            self._hang_up("too_many_connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.forget(self)
        self._deadlines.clear()
        super().connection_lost(exc)
        self._end_requests()
        self._staged.release()

    def _end_requests(self) -> None:
        """Tell the request that is being answered, and let go of others: each would keep this connection in memory."""
        if self._answered and not self._answered.response_complete:  # uvicorn tells the request that it read last
            self._answered.disconnected = True
            self._answered.message_event.set()
        self.pipeline.clear()
        self.cycle = cast(RequestResponseCycle, self._answered)
        self._unparsed = memoryview(b"")

    def end_overdue_phases(self, now: float) -> None:
        """See `Connection`."""
        if self.transport.is_closing() and Phase.CLOSING not in self._deadlines:
            self._begin(Phase.CLOSING)
        for phase in [phase for phase, deadline in self._deadlines.items() if deadline <= now]:
            self._end_overdue(phase)

    def drop(self) -> None:
        """See `Connection`."""
        self.transport.abort()

    def _begin(self, phase: Phase) -> None:
        self._deadlines[phase] = self.loop.time() + self.limits.timeouts_s[phase]

    def _end(self, phase: Phase) -> None:
        self._deadlines.pop(phase, None)

    def _end_overdue(self, phase: Phase) -> None:
        if phase is Phase.HEAD and (self.flow.read_paused or self._unparsed):
            self._begin(phase)  # it is the server that does not read on
        elif phase is Phase.HEAD:
            self._hang_up()
        elif phase is Phase.ANSWER and self._answer_begun():
            self._end(phase)
        elif phase is Phase.LINGERING:
            self._end(phase)
            self._staged.close_fully()
        else:
            if phase is Phase.ANSWER:
                log.warning("request cut: no answer for %g s", self.limits.timeouts_s[phase])
            self.transport.abort()

    # What is read

    def data_received(self, data: bytes) -> None:
        if self._bytes_to_discard is not None:
            self._discard(len(data))
            return
        if self._stopped_reading:
            self.flow.pause_reading()
            return
        if len(self._unparsed) > MAX_UNPARSED_BYTES:
            self._read_no_more()
            return
        self._unparsed = memoryview(bytes(self._unparsed) + data)
        self._parse()

    def _discard(self, n_bytes: int) -> None:
        self._begin(Phase.LINGERING)
        self._bytes_to_discard = cast(int, self._bytes_to_discard) - n_bytes
        if self._bytes_to_discard < 0:
            self.transport.abort()

    def _parse(self) -> None:
        """Parse what was read, as far as requests may wait."""
        while self._unparsed and not self.pipeline and not self.transport.is_closing():
            n_bytes = len(self._unparsed) if self.cycle and self.cycle.more_body else PARSED_BYTES
            data, self._unparsed = self._unparsed[:n_bytes], self._unparsed[n_bytes:]
            self._parse_bytes(data)
        if self._unparsed:
            self.flow.pause_reading()

    def _parse_bytes(self, data: memoryview) -> None:
        self._framing_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._on_parser_error(error)
            return
        if self._framing_bytes > (MAX_HEAD_BYTES if Phase.HEAD in self._deadlines else MAX_FRAMING_BYTES):
            self.send_400_response("The head of the request, or what stands around its body, is too long.")

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._begin(Phase.HEAD)

    def on_headers_complete(self) -> None:
        self._framing_bytes = 0
        if self._upgrade_offered():
            return
        self._end(Phase.HEAD)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RequestRefused("More requests were sent than are taken before the first is answered.")
        version = self.parser.get_http_version()
        check_host(version, self.url, [value for name, value in self.headers if name == b"host"])
        self.expect_100_continue &= version != "1.0"  # whose clients know no answer before the answer
        super().on_headers_complete()
        self._body_bytes = self._trailers.n_bytes = 0
        self.headers = cast(list[tuple[bytes, bytes]], self._trailers)

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self.limits.max_body_bytes:
            raise RequestRefused("The body of the request is too long.")
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._framing_bytes = 0
        if not self._upgrade_offered():
            super().on_message_complete()

    def _feed(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = new_parser(self)

    def _on_parser_error(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        self.send_400_response(
            str(cause) if isinstance(cause, RequestRefused) else "The request is not valid HTTP/1.1."
        )

    def _upgrade_offered(self) -> bool:
        # A tunnel (CONNECT) is an upgrade to the parser, too. uvicorn refuses its target.
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        headers = ((name, value) for name, value in self.headers if name != b"upgrade")
        return head(self.parser.get_method(), self.url, version, headers)

    # What is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        self._begin(Phase.ANSWER)
        if Phase.READING not in self._deadlines:
            self.open_connections.serve(self)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._end(Phase.ANSWER)
        super().on_response_complete()
        if self._bytes_to_discard is not None:
            return
        self._parse()
        if self.pipeline or self._stopped_reading:
            self.flow.pause_reading()  # uvicorn would read on, and pile up requests, at each answer
        if Phase.HEAD in self._deadlines:
            self._unset_keepalive_if_required()  # another request has begun to come
        if self._answered is None or self._answered.response_complete:
            self.open_connections.wait(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._begin(Phase.READING)
        self.open_connections.wait(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end(Phase.READING)
        if Phase.ANSWER in self._deadlines or self._answer_begun():
            self.open_connections.serve(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or only the beginning of one."""
        self._hang_up("malformed_request", msg)

    def _hang_up(self, code: str | None = None, detail: str | None = None) -> None:
        """Close the connection, with a problem as its last answer if there is a code.

        Requests that came whole before are answered first, and then nothing else is.
        """
        if self._owes_answers():
            self._read_no_more()
            return
        if code and not self.transport.is_closing() and not self._answer_begun():
            app = cast(FastAPI, self.config.app)
            self.transport.write(problem_message(code, detail, root_path=app.state.root_path))
            self._linger()
        else:
            self.transport.close()

    def _close(self) -> None:
        """End the connection: in two steps where the client may still be sending, else at once."""
        if (self.cycle and self.cycle.more_body) or self._stopped_reading or self.pipeline or self._unparsed:
            self._linger()
        else:
            self._staged.close_fully()

    def _linger(self) -> None:
        """End the server's side, and drop what comes until the client ends the other."""
        self._bytes_to_discard = MAX_DISCARDED_BYTES
        self._end_requests()
        self.flow.resume_writing()  # for a request that waits until its client reads
        self._deadlines.clear()
        self._begin(Phase.CLOSING)
        self._begin(Phase.LINGERING)
        self.open_connections.linger(self)
        self.flow.resume_reading()
        self._staged.half_close()

    def _owes_answers(self) -> bool:
        answered = self._answered
        if answered is None or answered.response_complete:
            return False
        return answered is not self.cycle or not answered.more_body

    def _read_no_more(self) -> None:
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else cast(RequestResponseCycle, self._answered)
        last.keep_alive = False
        self._stopped_reading = True
        self._unparsed = memoryview(b"")
        self._end(Phase.HEAD)
        self.flow.pause_reading()

    def _answer_begun(self) -> bool:
        answered = self._answered
        return answered is not None and answered.response_started and not answered.response_complete


def check_host(version: str, target: bytes, hosts: Sequence[bytes]) -> None:
    """Raise `RequestRefused` where it is not clear which host a request is for (RFC 9112, 3.2)."""
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise RequestRefused("A request has one Host header.")
    absolute = _ABSOLUTE.match(target)
    if absolute and [absolute["authority"].lower()] != [host.lower() for host in hosts]:
        raise RequestRefused("The request's target and its Host header name different hosts.")


def problem_message(code: str, detail: str | None, *, root_path: str) -> bytes:
    """A problem as a whole HTTP response."""
    kind = PROBLEMS[code]
    body = json.dumps(under(root_path, problem_object(code, detail or kind.meaning))).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if kind.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % kind.retry_after_s))
    lines = (b"%s: %s\r\n" % header for header in headers)
    return b"".join([STATUS_LINE[kind.status], *lines, b"\r\n", body])


def new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """A parser as uvicorn makes it. One that saw `Connection: Upgrade, close` reads nothing more."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def head(method: bytes, target: bytes, version: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request's line and headers as they go over the wire."""
    lines = [b"%s %s HTTP/%s" % (method, target, version), *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join([*lines, b"", b""])
