"""Hosts: each a network namespace on one switch, with an address, a clock, and programs that it starts when it boots.

The switch is in the namespace of this process, which reaches every host.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.clocks import Clocks
from tests.hosts.isolation import ip
from tests.installed import installed

SWITCH = "switch"
NETWORK = "10.77.0"
DEVICE = "eth0"
#: A host that is told to stop is waited for so long.
STOP_S = 60.0


@contextmanager
def switch() -> Iterator[None]:
    """What hosts are connected to."""
    ip("link", "add", "name", SWITCH, "type", "bridge")
    ip("address", "add", f"{address_of(1)}/24", "dev", SWITCH)
    ip("link", "set", SWITCH, "up")
    try:
        yield
    finally:
        ip("link", "delete", SWITCH)


def address_of(number: int) -> str:
    return f"{NETWORK}.{number}"


@dataclass(frozen=True)
class Program:
    """What a host runs."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Host:
    """A machine on the network, which logs into `NAME.log` in the folder. Without `clocks` it has the machine's."""

    def __init__(
        self, name: str, address: str, programs: Mapping[str, Program], *, logs: Path, clocks: Clocks | None = None
    ) -> None:
        self.name = name
        self.address = address
        self.programs = programs
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._log = logs / f"{name}.log"
        self._environment = {**os.environ, **(clocks.environment(name) if clocks else {})}
        self._port = f"to-{name}"  # the switch's; a device has 15 letters at most
        self._connect()

    def boot(self) -> None:
        """Start all programs."""
        for name in self.programs:
            self.start(name)

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        program = self.programs[name]
        command = [installed("ip"), "netns", "exec", self.name, *program.command]
        environment = {**self._environment, **program.environment}
        with self._log.open("ab") as log:
            self.running[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        return self.running[name]

    def crash(self) -> None:
        """Kill every process, also those that are being started."""
        while pids := self.pids():
            send(signal.SIGKILL, pids)
            self._reap(STOP_S)

    def stop(self) -> None:
        """Ask all programs to stop, as a machine that shuts down does, and wait for them."""
        for process in self.running.values():
            process.terminate()
        self._reap(STOP_S)
        self.crash()

    def cut(self) -> None:
        """Pull the cable: nothing arrives or leaves, and nobody is told."""
        ip("link", "set", self._port, "nomaster")

    def heal(self) -> None:
        ip("link", "set", self._port, "master", SWITCH)

    @contextmanager
    def parted_from(self, *others: "Host") -> Iterator[None]:
        """This host and those do not reach one another; all others reach both."""
        for other in others:
            ip("-n", self.name, "route", "add", "blackhole", other.address)
        try:
            yield
        finally:
            for other in others:
                ip("-n", self.name, "route", "delete", "blackhole", other.address)

    def remove(self) -> None:
        """Kill every process, and take the host off the network."""
        self.crash()
        ip("link", "delete", self._port)
        ip("netns", "delete", self.name)

    def pids(self) -> list[int]:
        found = subprocess.run([installed("ip"), "netns", "pids", self.name], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def _connect(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", "name", self._port, "type", "veth", "peer", "name", DEVICE, "netns", self.name)
        ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", DEVICE)
        for device in ("lo", DEVICE):
            ip("-n", self.name, "link", "set", device, "up")
        ip("link", "set", self._port, "master", SWITCH, "up")

    def _reap(self, timeout_s: float) -> None:
        for process in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)


def send(signum: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(pid, signum)
