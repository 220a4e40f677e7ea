"""A Redis master with replicas, and a Sentinel beside each of them, on hosts of their own."""

import time
from collections.abc import Sequence
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.cli.serving.embedded_redis import find_server
from app.core.redis.replicas import n_alive
from tests.hosts.network import Host, Program

PORT, SENTINEL_PORT = 6379, 26379
MASTER_NAME = "apex"
REDIS, SENTINEL = "redis", "sentinel"
#: A Sentinel whose clock has jumped takes no part for half a minute: it keeps the machine's.
SENTINEL_CLOCK = {"LD_PRELOAD": ""}
WHOLE_AGAIN_S = 120.0
POLL_S = 0.1

#: What an operator writes, too: one replica at least, or no writes; see docs/operations.md.
REDIS_LINES = """
port {port}
dir {folder}
bind 0.0.0.0
protected-mode no
save ""
appendonly yes
appendfsync always
min-replicas-to-write 1
min-replicas-max-lag 2
repl-diskless-sync-delay 0
"""
SENTINEL_LINES = """
port {port}
dir {folder}
bind 0.0.0.0
protected-mode no
sentinel monitor {name} {master} 6379 2
sentinel down-after-milliseconds {name} 2000
sentinel failover-timeout {name} 6000
sentinel parallel-syncs {name} 2
"""


def url(addresses: Sequence[str]) -> str:
    sentinels = ",".join(f"{address}:{SENTINEL_PORT}" for address in addresses)
    return f"redis+sentinel://{sentinels}/{MASTER_NAME}/0"


def programs(folder: Path, address: str, *, master: str) -> dict[str, Program]:
    """Of one host, whose files are in the folder. Both servers rewrite what is configured there."""
    found = {}
    replica_of = "" if address == master else f"replicaof {master} {PORT}\n"
    for name, port, lines, mode in (
        (REDIS, PORT, REDIS_LINES + replica_of, []),
        (SENTINEL, SENTINEL_PORT, SENTINEL_LINES, ["--sentinel"]),
    ):
        at = folder / name
        at.mkdir(parents=True)
        config = at / "server.conf"
        config.write_text(lines.format(port=port, folder=at, name=MASTER_NAME, master=master))
        found[name] = Program([find_server(), str(config), *mode], SENTINEL_CLOCK if mode else {})
    return found


class RedisGroup:
    """The hosts of one master and its replicas."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = hosts

    def master(self) -> Host:
        """Waits until most Sentinels name the same one and it says so itself, with all replicas at hand."""
        deadline = time.monotonic() + WHOLE_AGAIN_S
        while (master := self._whole_master()) is None:
            if time.monotonic() > deadline:
                raise AssertionError("Redis has not become whole again")
            time.sleep(POLL_S)
        return master

    def replicas(self) -> list[Host]:
        master = self.master()
        return [host for host in self.hosts if host is not master]

    def _whole_master(self) -> Host | None:
        try:
            named = {self._named_by(host) for host in self.hosts}
            [master] = [host for host in self.hosts if {host.address} == named]
            return master if self._is_whole(master) else None
        except (RedisError, OSError, ValueError, KeyError):
            return None

    def _named_by(self, host: Host) -> str:
        """The master's address by one Sentinel, which knows all others and all replicas, and could act now."""
        with client(host, SENTINEL_PORT) as sentinel:
            info = sentinel.info("sentinel")
        known, n = info["master0"], len(self.hosts)
        if info["sentinel_tilt"] or (known["status"], known["slaves"] + 1, known["sentinels"]) != ("ok", n, n):
            raise ValueError("it could not replace the master")
        return str(known["address"]).partition(":")[0]

    def _is_whole(self, master: Host) -> bool:
        with client(master, PORT) as redis:
            info = redis.info("replication")
        return bool(info["role"] == "master" and n_alive(info) == len(self.hosts) - 1)


def client(host: Host, port: int) -> Redis:
    return Redis(host=host.address, port=port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
