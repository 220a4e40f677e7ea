"""A change counts once enough replicas have it, and never because of another server than the one that made it."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError

from app.core.jobs.models import JobState
from app.core.redis import replicas
from app.core.redis.client import connect
from app.core.redis.group import RedisGroup
from app.core.redis.keys import RedisKeys
from app.core.redis.replicas import NotReplicated, Replicas
from tests.conftest import state_machine
from tests.proxy import proxy
from tests.redis_servers import MASTER_NAME, Server, pair, sentinel, server, swap, until
from tests.worker.fakes import accepted, outcome, score_track, stored

KEYS = RedisKeys("apex")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    with pair(tmp_path) as started:
        yield started


def test_a_change_of_a_master_that_lost_its_part_is_not_confirmed_by_the_new_one(
    servers: tuple[Server, Server],
) -> None:
    master, replica = servers
    with proxy(master.url) as address, connect(address.url, max_retries=20) as redis:
        confirmed = Replicas(redis, KEYS, needed=1).confirmed

        def change_while_the_roles_change() -> None:
            with confirmed() as client:
                client.set("a", "b")
                swap(master, replica)
                address.server_url = replica.url

        with pytest.raises(NotReplicated):
            change_while_the_roles_change()
        with confirmed() as client:
            client.set("a", "b")


def test_more_replicas_than_there_are_confirm_nothing(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "TIMEOUT_S", 0.05)
    with connect(servers[0].url, max_retries=0) as redis:
        until(lambda: Replicas(redis, KEYS, needed=1).n_alive() == 1)
        with pytest.raises(NotReplicated), Replicas(redis, KEYS, needed=2).confirmed():
            pass


@pytest.mark.parametrize(("followed", "is_confirmed"), [(True, False), (False, True)])
def test_a_replica_confirms_nothing_of_a_master_that_another_has_replaced(
    tmp_path: Path, followed: bool, is_confirmed: bool
) -> None:
    """An old master that has come back says that it is one, too, and has replaced nobody."""
    with (
        pair(tmp_path) as (master, _),
        server(tmp_path, f"replicaof 127.0.0.1 {master.port}", "enable-debug-command local") as other,
        sentinel(master, tmp_path) as asked,
        asked.client() as sentinels,
        connect(f"redis+sentinel://127.0.0.1:{asked.port}/{MASTER_NAME}", max_retries=3) as redis,
        other.client() as client,
    ):
        confirmed = Replicas(redis, KEYS, needed=1).confirmed
        until(lambda: len(sentinels.sentinel_slaves(MASTER_NAME)) == 2 == redis.info("replication")["connected_slaves"])
        with confirmed() as one:
            one.set("a", "b")
        client.replicaof("NO", "ONE")
        if not followed:
            client.execute_command("DEBUG CHANGE-REPL-ID")
        with (
            nullcontext() if is_confirmed else pytest.raises(NotReplicated, match="another server"),
            confirmed() as one,
        ):
            one.set("a", "c")


def test_a_server_of_the_group_that_is_away_does_not_keep_the_others_from_confirming(tmp_path: Path) -> None:
    with (
        pair(tmp_path) as (master, _),
        server(tmp_path, f"replicaof 127.0.0.1 {master.port}") as other,
        sentinel(master, tmp_path) as asked,
        asked.client() as sentinels,
        connect(f"redis+sentinel://127.0.0.1:{asked.port}/{MASTER_NAME}", max_retries=3) as redis,
    ):
        until(lambda: len(sentinels.sentinel_slaves(MASTER_NAME)) == 2)
        with other.stopped(), Replicas(redis, KEYS, needed=1).confirmed() as client:
            client.set("a", "b")


def test_sentinels_that_do_not_answer_are_not_asked_with_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(name: str) -> None:
        asked.append(name)
        raise ConnectionError

    with connect("redis://127.0.0.1:1", max_retries=0) as away:
        monkeypatch.setattr(away, "sentinel_master", refuse)
        group = RedisGroup([away], MASTER_NAME, lambda _: away)
        assert [group.has_successor("any") for _ in range(5)] == [False] * 5
    assert asked == [MASTER_NAME]


def test_audio_stays_until_replicas_have_the_end_of_its_job(
    servers: tuple[Server, Server], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(servers[0].url, max_retries=20) as redis:
        machine = state_machine(redis)
        machine.replicas = Replicas(redis, KEYS, needed=1)
        kept, deleted = accepted(machine, data_dir), accepted(machine, data_dir)
        task = score_track(machine, data_dir)
        with servers[1].stopped(), monkeypatch.context() as patch:
            patch.setattr(replicas, "TIMEOUT_S", 0.2)
            task(kept.id)
        task(deleted.id)
        assert {outcome(machine, job).status for job in (kept, deleted)} == {JobState.SUCCEEDED}
    assert stored(data_dir) == [kept.id]
