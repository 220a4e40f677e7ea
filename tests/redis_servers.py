"""Real servers of Redis for tests: masters, replicas and Sentinels on ports of this machine."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from app.cli.serving.embedded_redis import find_server
from app.core.redis.replicas import n_alive
from tests.ports import free_port

DEADLINE_S = 60.0
MASTER_NAME = "mymaster"


@dataclass
class Server:
    """A server that runs until the block ends which started it."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It hangs during the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        return Redis(port=self.port, retry=Retry(NoBackoff(), retries=3))


@contextmanager
def server(directory: Path, *lines: str, mode: Sequence[str] = ()) -> Iterator[Server]:
    """A server with these lines in its configuration."""
    port = free_port("127.0.0.1")
    config = directory / f"{port}.conf"
    directory.mkdir(parents=True, exist_ok=True)
    config.write_text("\n".join([f"port {port}", "bind 127.0.0.1", f"dir {directory}", *lines]))
    process = subprocess.Popen([find_server(), config, *mode], stdout=subprocess.DEVNULL)
    started = Server(port, process)
    try:
        with started.client() as client:
            until(lambda: is_up(client))
        yield started
    finally:
        process.kill()
        process.wait()


def cluster(directory: Path) -> AbstractContextManager[Server]:
    """A Cluster of one server."""
    bus = free_port("127.0.0.1")  # by default it is the server's port and 10,000 more, which may be no port
    return server(directory, "cluster-enabled yes", f"cluster-port {bus}")


@contextmanager
def pair(directory: Path, *lines: str) -> Iterator[tuple[Server, Server]]:
    """A master, and a replica that has all that it has."""
    with (
        server(directory / "master", 'save ""', "repl-diskless-sync-delay 0", *lines) as master,
        server(directory / "replica", 'save ""', f"replicaof 127.0.0.1 {master.port}", *lines) as replica,
    ):
        until_followed(master)
        yield master, replica


@contextmanager
def sentinel(master: Server, directory: Path) -> Iterator[Server]:
    """A Sentinel that decides alone."""
    lines = (
        f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master.port} 1",
        f"sentinel down-after-milliseconds {MASTER_NAME} 500",
        f"sentinel failover-timeout {MASTER_NAME} 3000",
    )
    with server(directory / "sentinel", *lines, mode=["--sentinel"]) as started, started.client() as client:
        until(lambda: client.sentinel_slaves(MASTER_NAME))
        yield started


def swap(master: Server, replica: Server) -> None:
    """Have master and replica change their roles; connections stay."""
    with master.client() as old, replica.client() as new:
        new.replicaof("NO", "ONE")
        old.replicaof("127.0.0.1", str(replica.port))
        until(lambda: old.info("replication")["master_link_status"] == "up")


def until_followed(master: Server) -> None:
    """Wait until its one replica has all that it has, and it knows: the replica's own word comes earlier."""
    with master.client() as client:
        until(lambda: n_alive(client.info("replication")) == 1)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_up(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except AuthenticationError:
        return True
    except RedisError:
        return False


def fail_over(sentinel: Server, master: Server) -> None:
    """Have the Sentinel make the replica the master. The master becomes its replica now, not later."""
    with sentinel.client() as client, master.client() as old:
        until(lambda: _accepted(client))
        until(lambda: client.sentinel_masters()[MASTER_NAME]["port"] != master.port)
        old.replicaof("127.0.0.1", client.sentinel_masters()[MASTER_NAME]["port"])


def _accepted(client: Redis) -> bool:
    try:
        return bool(client.execute_command("SENTINEL FAILOVER", MASTER_NAME))  # type: ignore[no-untyped-call]
    except ResponseError:  # it knows no replica yet
        return False
