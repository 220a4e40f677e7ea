"""The service under attack, as its attackers see it: an address, keys, processes, a Redis and folders."""

import http.client
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from redis import Redis

from tests.attack.clocks import Clocks
from tests.chaos.clients import http_client
from tests.chaos.faults import Family
from tests.chaos.scripted import Script

#: Whose jobs are followed from their 202 to the end of the run, and who does no harm.
BYSTANDER = "bystander"
ATTACKERS = tuple(f"attacker-{number}" for number in range(1, 17))
TENANTS = (BYSTANDER, *ATTACKERS)
#: Hundreds of answers, each of which may be long, are not waited for any longer.
EXCHANGE_S = 5.0


@dataclass(frozen=True)
class Target:
    """What an attack can reach. `keys` are by tenant, `clocks` None for a service whose clocks are the machine's."""

    url: str
    processes: Family
    data_dir: Path
    redis_url: str
    keys: Mapping[str, str]
    clocks: Clocks | None = None

    def connect(self, *, timeout_s: float = 3.0, receive_bytes: int | None = None) -> socket.socket:
        """A connection; with `receive_bytes`, one that takes in no more than that unread."""
        address = urlsplit(self.url)
        connection = socket.socket()
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(timeout_s)
        try:
            connection.connect((address.hostname, address.port))
        except OSError:
            connection.close()
            raise
        return connection

    def exchange(self, request: bytes, *, closes: bool = False, timeout_s: float = 3.0) -> bytes:
        """Send bytes, and read until the other side hangs up or is silent, or for `EXCHANGE_S`.

        `closes`: nothing more will be sent.
        """
        answer, deadline = bytearray(), time.monotonic() + EXCHANGE_S
        with suppress(OSError), self.connect(timeout_s=timeout_s) as connection:
            with suppress(OSError):
                connection.sendall(request)
                if closes:
                    connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline and (received := connection.recv(65536)):
                answer += received
        return bytes(answer)

    def head(self, start: str, *headers: str, tenant: str = ATTACKERS[0]) -> bytes:
        """A request's head with a tenant's key; `start` is its method and path."""
        lines = [f"{start} HTTP/1.1", f"Host: {urlsplit(self.url).netloc}", self.authorization(tenant), *headers]
        return "\r\n".join([*lines, "", ""]).encode()

    def authorization(self, tenant: str) -> str:
        return f"Authorization: Bearer {self.keys[tenant]}"

    @contextmanager
    def client(self, tenant: str) -> Iterator[httpx.Client]:
        """A well-behaved client with the key of a tenant."""
        with http_client(self.url, key=self.keys[tenant]) as client:
            yield client

    @contextmanager
    def redis(self) -> Iterator[Redis]:
        with Redis.from_url(self.redis_url) as redis:
            yield redis

    def submit(self, client: httpx.Client, script: Script, **headers: str) -> str | None:
        """Send a track once; the id of its job, None where it was not accepted."""
        try:
            answer = client.post("/score", content=script.track(), headers={"Content-Type": "audio/wav", **headers})
        except httpx.TransportError:
            return None
        return str(answer.json()["id"]) if answer.status_code == 202 else None


#: What may happen to a client of a service that is being attacked.
NO_ANSWER = (OSError, httpx.TransportError, http.client.HTTPException)
