"""A TCP proxy between a client and Redis: it loses one answer, is silent, or leads elsewhere, at a word of the test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

BLOCK = 65536


class Proxy:
    """Passes bytes both ways, but for the answer to the next command that holds `lose_answer_to`.

    New connections lead to `server_url`. While it `is_silent`, what clients send goes nowhere, and is lost.
    """

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.is_silent = False
        self.lose_answer_to: bytes | None = None
        self.n_lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        lost = threading.Event()
        with client, suppress(OSError), _connected(self.server_url) as server:
            threading.Thread(target=self._answer, args=(server, client, lost), daemon=True).start()
            while block := client.recv(BLOCK):
                if self.lose_answer_to and self.lose_answer_to in block:
                    self.lose_answer_to = None
                    lost.set()
                if not self.is_silent:
                    server.sendall(block)

    def _answer(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        """Pass answers on; the lost one takes the connection with it, so that the command was carried out unheard."""
        with suppress(OSError):
            while (block := server.recv(BLOCK)) and not lost.is_set():
                client.sendall(block)
            if lost.is_set():
                self.n_lost += 1
                client.shutdown(socket.SHUT_RDWR)


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.hostname:
        return socket.create_connection((parts.hostname, parts.port or 0))
    server = socket.socket(socket.AF_UNIX)
    server.connect(parts.path)
    return server


@contextmanager
def proxy(server_url: str) -> Iterator[Proxy]:
    passing = Proxy(server_url)
    try:
        yield passing
    finally:
        passing.close()
