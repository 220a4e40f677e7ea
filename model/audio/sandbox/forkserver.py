"""A warm process that forks one child per request: a crash, a leak or a hang ends with that child.

Not the one in `multiprocessing`, for three reasons: that one imports the parent's main module again in every child, is
one per process and shared with whoever else uses it, and gives its children the parent's environment, secrets
included. Linux only.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Self

from model.parent_death import tied_to_this_process

#: What a child runs: takes the request and its file descriptors, returns the reply. Both are JSON objects.
Target = Callable[..., dict[str, Any]]

MAX_MESSAGE_BYTES = 16 * 1024
_MAX_FDS = 8
#: Until its first answer a warm process imports; after that a fork is a matter of milliseconds.
_START_TIMEOUT_S = 30.0
_FORK_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 5.0
#: One thread each: children fork, and may not start threads.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # A block's memory is kept for the next block, instead of being returned and faulted in again page by page.
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME")


class ForkServerError(OSError):
    """The fork server could not start a child, or died: a fault of this machine, not of the request."""


class Child:
    """A running child. Leaving its context kills it, whatever it is doing, and waits until it is gone."""

    def __init__(self, connection: socket.socket, pidfd: int) -> None:
        self._connection = connection
        self._pidfd = pidfd

    def reply(self, timeout_s: float) -> bytes:
        """What the child answered, empty where it died without an answer. Raises TimeoutError."""
        self._connection.settimeout(timeout_s)
        with suppress(ConnectionError):
            return self._connection.recv(MAX_MESSAGE_BYTES)
        return b""

    def cpu_s(self) -> float:
        """Processor time that it has used so far. Raises OSError for a child that is gone."""
        pid = Path(f"/proc/self/fdinfo/{self._pidfd}").read_text().partition("Pid:")[2].split()[0]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll(_KILL_TIMEOUT_S * 1000)
        os.close(self._pidfd)
        self._connection.close()


class ForkServer:
    """Starts the warm process when first needed, again where it has died or is silent, and forks children from it.

    ``target`` is "module:function", imported by the server alone, which calls the module's ``prepare`` first where it
    has one. May be used from several threads at once.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def fork(self, request: dict[str, Any], *fds: int) -> Child:
        """Forks a child that runs the target on the request and copies of the descriptors. Raises ForkServerError.

        A warm process that does not answer is killed: the next call starts another.
        """
        try:
            server = self._running()
        except OSError as error:
            raise ForkServerError("the fork server could not be started") from error
        try:
            return server.fork(json.dumps(request).encode(), *fds)
        except TimeoutError as error:
            self._end(server)
            raise ForkServerError("the fork server does not answer") from error
        except (OSError, ValueError) as error:
            raise ForkServerError("the fork server could not start a child") from error

    def is_alive(self) -> bool:
        """Whether the warm process lives. Waits a moment, for its children's deaths are heard of before its own."""
        server = self._server
        return server is not None and server.is_alive(0.05)

    def close(self) -> None:
        """Ends the warm process, and with it every child that the kernel lets die with its parent."""
        if self._server is not None:
            self._end(self._server)

    def _running(self) -> "_Server":
        with self._lock:
            if self._server is not None and not self._server.is_alive():
                self._server.close()
                self._server = None
            self._server = self._server or _Server(self._target)
            return self._server

    def _end(self, server: "_Server") -> None:
        with self._lock:
            server.close()
            if self._server is server:
                self._server = None


class _Server:
    """The warm process and the connection to it; the process ends when the connection does."""

    def __init__(self, target: str) -> None:
        self._answers_within_s = _START_TIMEOUT_S
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = [sys.executable, "-P", "-m", __name__, target, str(theirs.fileno())]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    tied_to_this_process(program, signal.SIGKILL),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                )
        except OSError:
            self._control.close()
            raise

    def fork(self, request: bytes, *fds: int) -> Child:
        """Raises TimeoutError when the process does not answer, OSError or ValueError when it has no child to give."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            for connection in (self._control, ours):
                connection.settimeout(self._answers_within_s)
            with theirs:
                socket.send_fds(self._control, [request], [theirs.fileno(), *fds])
            _, (pidfd,), _, _ = socket.recv_fds(ours, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except BaseException:
            ours.close()
            raise
        self._answers_within_s = _FORK_TIMEOUT_S
        return Child(ours, pidfd)

    def is_alive(self, wait_s: float = 0) -> bool:
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def close(self) -> None:
        """Kills the process, because one that is stopped or hangs would not notice that its connection is closed."""
        self._control.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # it waits for a device that is gone; the kernel ends it after that
            self._process.wait(_KILL_TIMEOUT_S)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, **ENVIRONMENT, "PYTHONPATH": path}


def serve(control: socket.socket, target: Target) -> None:
    """Forks a child for every request, until the other end of the connection is closed."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # its owner decides when it ends, not a signal to the whole group
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    gc.freeze()  # a collection in a child would otherwise copy every page of the heap
    while True:
        request, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, _MAX_FDS)
        if not request:
            return
        with suppress(OSError):  # no process to be had: closing the descriptors tells the one who asked
            if os.fork() == 0:
                control.close()
                _run(target, request, fds)
        for fd in fds:
            os.close(fd)


def _run(target: Target, request: bytes, fds: list[int]) -> NoReturn:
    status = 1
    try:
        connection = socket.socket(fileno=fds[0])
        pidfd = os.pidfd_open(os.getpid())
        socket.send_fds(connection, [b"forked"], [pidfd])
        os.close(pidfd)
        reply = target(json.loads(request), *fds[1:])
        connection.send(json.dumps(reply).encode())
        status = 0
    finally:
        os._exit(status)  # no clean-up of the server's things in a copy of it


def main() -> None:
    """Entry point of the warm process: ``python -m model.audio.sandbox.forkserver module:function descriptor``."""
    name, _, function = sys.argv[1].partition(":")
    control = socket.socket(fileno=int(sys.argv[2]))
    module = importlib.import_module(name)
    getattr(module, "prepare", lambda: None)()
    try:
        serve(control, getattr(module, function))
    except ConnectionError:
        return  # its owner was killed


if __name__ == "__main__":
    main()
