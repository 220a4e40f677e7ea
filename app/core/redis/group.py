"""The servers that Sentinels know under one name, and whether one of them has replaced a master.

A master that was cut off from its replicas does not know that Sentinels have made one of them master. When the links
heal, another replica may still confirm what the old master writes, a moment before it discards that with all that the
old master wrote alone. What such a replica has confirmed is lost.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

#: Which servers there are changes seldom, and what the Sentinels say is taken for right for so long.
KNOWN_FOR_S = 10.0
#: Who did not answer, server or Sentinel, is not asked again for so long: a dead host would cost each change a timeout.
SILENT_FOR_S = 1.0

Address = tuple[str, int]


class RedisGroup:
    """A master and its replicas, as Sentinels know them. `connect` makes a client of one server. Blocking."""

    def __init__(self, sentinels: Sequence[Redis], name: str, connect: Callable[[Address], Redis]) -> None:
        self._sentinels = sentinels
        self._name = name
        self._connect = connect
        self._clients: dict[Address, Redis] = {}
        self._ask_at = float("-inf")
        self._silent_at: dict[Address, float] = {}

    def has_successor(self, replication_id: str) -> bool:
        """Whether a server that followed the master of this replication id has been made master, as far as they answer.

        A server that was master before it is none: it comes back as master, too, until Sentinels make it a replica.
        """
        return any(self._succeeds(address, client, replication_id) for address, client in self._servers().items())

    def _succeeds(self, address: Address, client: Redis, replication_id: str) -> bool:
        if time.monotonic() - self._silent_at.get(address, float("-inf")) < SILENT_FOR_S:
            return False
        try:
            info = client.info("replication")
        except RedisError:
            self._silent_at[address] = time.monotonic()
            return False
        return bool(info["role"] == "master" and info["master_replid2"] == replication_id)

    def _servers(self) -> dict[Address, Redis]:
        if time.monotonic() >= self._ask_at:
            if servers := self._asked():
                self._clients = {address: self._clients.get(address) or self._connect(address) for address in servers}
            self._ask_at = time.monotonic() + (KNOWN_FOR_S if servers else SILENT_FOR_S)
        return self._clients

    def _asked(self) -> list[Address]:
        """The servers by the first Sentinel that answers; none if none does."""
        for sentinel in self._sentinels:
            with suppress(RedisError):
                servers: Any = [sentinel.sentinel_master(self._name), *sentinel.sentinel_slaves(self._name)]
                return [(str(server["ip"]), int(server["port"])) for server in servers]
        return []
