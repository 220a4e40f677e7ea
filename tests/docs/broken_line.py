"""A TCP line between a client and a server that breaks once, at a word of the test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

BLOCK = 65536


@dataclass
class BrokenLine:
    """Passes bytes both ways until the server says `word`; what it says with it is passed on or lost."""

    server: tuple[str, int]
    word: bytes
    pass_on: bool
    n_broken: int = 0
    sent: list[bytes] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.server) as server, suppress(OSError):
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()
            while block := client.recv(BLOCK):
                self.sent.append(block)
                server.sendall(block)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while block := server.recv(BLOCK):
                breaks = not self.n_broken and self.word in block
                if self.pass_on or not breaks:
                    client.sendall(block)
                if breaks:
                    self.n_broken += 1
                    break
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def broken_line(server: tuple[str, int], word: bytes, *, pass_on: bool) -> Iterator[BrokenLine]:
    line = BrokenLine(server, word, pass_on)
    threading.Thread(target=line.accept, daemon=True).start()
    try:
        yield line
    finally:
        line.close()
