"""Replicas: has a change been copied to enough of them to survive the loss of the master?"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.core.redis.client import text
from app.core.redis.connections import SentinelPool
from app.core.redis.keys import PROBE_TTL_S, RedisKeys

log = logging.getLogger(__name__)

#: How long a change waits for its replicas: less than a client's command may take.
TIMEOUT_S = 1.0
#: A replica reports every second how far it is. One that was silent for longer will not confirm anything in time.
MAX_LAG_S = 3
_REPLICATION_ID = re.compile(r"^master_replid:(\w+)", re.MULTILINE)


class NotReplicated(Exception):
    """A change was written, and too few replicas confirmed it in time: the loss of the master may undo it."""


class Replicas:
    """How many replicas must have a change before it counts as kept: `needed`; with 0 none is asked. Blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys, *, needed: int = 0) -> None:
        self.redis = redis
        self.keys = keys
        self.needed = needed

    @contextmanager
    def confirmed(self) -> Iterator[Redis]:
        """A client for reads and changes; afterwards enough replicas have whatever it read or changed.

        It has one connection: on another one a server may answer that was made master meanwhile and lacks the change.
        Raises `NotReplicated`.
        """
        if not self.needed:
            yield self.redis
            return
        with self.redis.client() as client:  # type: ignore[no-untyped-call]
            yield client
            self._wait(client)

    def n_alive(self) -> int:
        """Replicas that have reported lately."""
        return n_alive(self.redis.info("replication"))

    def _wait(self, client: Redis) -> None:
        pool = self.redis.connection_pool
        group = pool.group if isinstance(pool, SentinelPool) else None
        # WAIT is about what its own connection has written, so that without this write it would not wait for a read.
        write = ("SET", self.keys.write_probe, "", "EX", PROBE_TTL_S)
        wait = ("WAIT", self.needed, int(TIMEOUT_S * 1000))
        _, n_confirmed, *info = _answers(client, [write, wait, *([("INFO", "replication")] if group else [])])
        if int(n_confirmed) < self.needed:
            raise NotReplicated(f"{n_confirmed} replicas confirmed a change, and {self.needed} are needed")
        found = _REPLICATION_ID.search(text(info[0])) if info else None
        if group and found and group.has_successor(found[1]):
            raise NotReplicated("another server is master, which lacks the change")


def _answers(client: Redis, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
    """Not by a client's own methods, which would connect anew where the connection has broken."""
    connection = client.connection
    assert connection
    try:
        packed = connection.pack_commands(commands)  # type: ignore[no-untyped-call]
        connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]
        return [connection.read_response() for _ in commands]
    except RedisError as error:
        raise NotReplicated("the connection broke before replicas confirmed a change") from error


def n_alive(info: Mapping[str, Any]) -> int:
    """Replicas that have reported lately, by what a master says (INFO replication)."""
    replicas = (value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict))
    return sum(each.get("state") == "online" and int(each.get("lag", MAX_LAG_S)) < MAX_LAG_S for each in replicas)


@contextmanager
def unconfirmed_is_kept(job_id: str) -> Iterator[None]:
    """What the block deletes after the end of a job stays where that end is not confirmed: it may come to another run.

    What is left over is deleted like any audio without an unfinished job.
    """
    try:
        yield
    except NotReplicated as error:
        log.warning("audio kept for now: %s", error, extra={"job_id": job_id})
