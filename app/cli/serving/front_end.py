"""The processes of the HTTP front end behind one port, as their supervisor has them.

The port is opened once, by the supervisor, and every process accepts from it. So it is there while one of them dies:
who connects meanwhile is served by another, or waits for the next.
"""

import errno
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Self

from app.core.misconfiguration import end
from app.core.settings import ApiSettings
from app.core.storage.room import Reservations
from worker.supervisor import Child, Supervisor

API_COMMAND = (sys.executable, "-m", "app.cli", "api")
#: The address is taken, or the application did not start; uvicorn's own status.
EXIT_NOT_STARTED = 3
#: Connections that may wait to be accepted; as uvicorn has it.
BACKLOG = 2048
COUNT_BYTES = 8
#: When they stop, each process closes the port so much later than the one before: most requests are answered meanwhile.
DRAIN_GAP_S = 1.0


@dataclass(frozen=True)
class Inherited:
    """What one process has from its supervisor: its index, descriptors of the open port and of the shared counts."""

    listeners: tuple[int, ...]
    counts: int
    index: int

    @classmethod
    def parse(cls, argument: str) -> Self:
        """The arguments that `str` has written."""
        index, counts, *listeners = map(int, argument.split(","))
        return cls(tuple(listeners), counts, index)

    def __str__(self) -> str:
        return ",".join(map(str, (self.index, self.counts, *self.listeners)))

    def sockets(self) -> list[socket.socket]:
        return [socket.socket(fileno=listener) for listener in self.listeners]

    def reservations(self) -> Reservations:
        """Counted in memory that the processes share. Each writes its own number, as one machine word."""
        return Reservations(memoryview(mmap(self.counts, 0)).cast("q"), self.index)


class FrontEnd:
    """An open port and the processes that are to serve it. Use it in a `with` block, which closes the port."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.listeners = listen(settings.host, settings.port)
        self._counts = os.memfd_create("apex-reservations")
        os.ftruncate(self._counts, COUNT_BYTES * settings.api_processes)

    @property
    def port(self) -> int:
        return port_of(self.listeners)

    @property
    def stop_timeout_s(self) -> float:
        """How long its processes may take to stop."""
        gaps_s = DRAIN_GAP_S * (self.settings.api_processes - 1)
        return self.settings.lame_duck_s + gaps_s + self.settings.stop_grace_s

    def children(self) -> list[Child]:
        """Its processes; each reads the same settings from the environment."""
        return [self._child(index) for index in range(self.settings.api_processes)]

    def close_port(self) -> None:
        """Leave the port to the processes: it is closed when the last of them has closed it."""
        for listener in self.listeners:
            listener.close()

    def _child(self, index: int) -> Child:
        listeners = tuple(listener.fileno() for listener in self.listeners)
        inherited = Inherited(listeners, self._counts, index)
        return Child(
            name=f"api {index + 1}" if self.settings.api_processes > 1 else "api",
            command=[*API_COMMAND, "--inherited", str(inherited)],
            env={"APEX_LAME_DUCK_S": str(self.settings.lame_duck_s + DRAIN_GAP_S * index)},
            pass_fds=(*listeners, self._counts),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_port()
        os.close(self._counts)


def supervise(settings: ApiSettings) -> None:
    """Run the processes of the front end until SIGTERM or Ctrl-C."""
    with FrontEnd(settings) as front_end:
        Supervisor(front_end.children(), stop_timeout_s=front_end.stop_timeout_s, on_stop=front_end.close_port).run()


def listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host. Ends this process with EXIT_NOT_STARTED where there can be none."""
    try:
        return _listen(host, port)
    except OSError as error:
        end(f"cannot listen on port {port} of {host}: {error.strerror}", status=EXIT_NOT_STARTED)


def _listen(host: str, port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, *_, (address, _, *more) in dict.fromkeys(found):
        at = address, port_of(sockets) if sockets else port, *more
        try:
            sockets.append(socket.create_server(at, family=family, backlog=BACKLOG))
        except OSError as error:
            # A name of this machine may have an address of a kind that it does not have.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or not sockets:
                raise
    return sockets


def port_of(listeners: Sequence[socket.socket]) -> int:
    return int(listeners[0].getsockname()[1])
