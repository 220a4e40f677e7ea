"""A master that becomes a replica: clients, RQ's worker and listeners go on with the new one."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from app.core.redis.client import connect
from app.core.redis.connections import NoMaster
from tests.proxy import Proxy, proxy
from tests.redis_servers import MASTER_NAME, Server, fail_over, pair, sentinel, swap, until

N_IDLE = 5


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """A master and its replica."""
    with pair(tmp_path) as started:
        yield started


@pytest.fixture
def address(servers: tuple[Server, Server]) -> Iterator[Proxy]:
    """An address that leads to the master until a test changes that, as a cloud's does."""
    with proxy(servers[0].url) as passing:
        yield passing


def use_at_once(redis: Redis, n: int) -> None:
    """Have as many connections in the pool."""
    pool = redis.connection_pool
    for connection in [pool.get_connection() for _ in range(n)]:
        pool.release(connection)


def test_no_idle_connection_to_the_old_master_costs_a_client_its_answer(
    servers: tuple[Server, Server], address: Proxy
) -> None:
    with connect(address.url, max_retries=0) as redis:
        use_at_once(redis, N_IDLE)
        swap(*servers)
        address.server_url = servers[1].url
        for number in range(N_IDLE):
            redis.set(f"key-{number}", "")
        with redis.pipeline() as pipe:
            pipe.set("a", "b").set("c", "d").execute()
    with servers[1].client() as new:
        assert new.dbsize() == N_IDLE + 2


def test_a_server_that_stays_a_replica_is_told_from_one_that_is_silent(
    servers: tuple[Server, Server], address: Proxy
) -> None:
    with connect(address.url, max_retries=0) as redis:
        redis.ping()
        swap(*servers)
        with pytest.raises(NoMaster, match="read only replica"):
            redis.set("a", "")


def test_one_lost_connection_costs_one_answer_and_not_one_for_each_idle_connection(
    servers: tuple[Server, Server], address: Proxy
) -> None:
    with connect(address.url, max_retries=0, timeout_s=0.5) as redis:
        use_at_once(redis, N_IDLE)
        address.is_silent = True
        with pytest.raises(RedisError):
            redis.ping()
        address.is_silent = False
        for _ in range(N_IDLE):
            assert redis.ping()


def test_a_command_that_waits_is_repeated_on_the_new_master(servers: tuple[Server, Server], address: Proxy) -> None:
    """RQ's worker waits so for jobs, and would end with any error but that of a connection."""
    taken: list[object] = []
    with connect(address.url, max_retries=20) as redis, servers[0].client() as old, servers[1].client() as new:
        waiting = threading.Thread(target=lambda: taken.append(redis.blmove("queue", "taken", 30)))
        waiting.start()
        until(lambda: old.info("clients")["blocked_clients"])
        address.server_url = servers[1].url
        swap(*servers)
        until(lambda: new.info("clients")["blocked_clients"])
        new.rpush("queue", "job")
        waiting.join()
    assert taken == [b"job"]


def test_a_master_without_its_replicas_is_one_that_takes_no_writes(tmp_path: Path) -> None:
    lines = "min-replicas-to-write 2"
    with (
        pair(tmp_path, lines) as (master, _),
        connect(master.url, max_retries=0) as redis,
        pytest.raises(NoMaster, match="replicas"),
    ):
        redis.set("a", "")


def test_sentinels_lead_to_the_master_of_the_moment(servers: tuple[Server, Server], tmp_path: Path) -> None:
    with sentinel(servers[0], tmp_path) as asked:
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{asked.port}/{MASTER_NAME}/0"
        with connect(url, max_retries=0) as redis:
            use_at_once(redis, N_IDLE)
            fail_over(asked, servers[0])
            for number in range(N_IDLE):
                redis.set(f"key-{number}", "")
        with servers[1].client() as new:
            assert new.role()[0] == b"master"
            assert new.dbsize() == N_IDLE
