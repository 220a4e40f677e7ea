"""Which servers can be used."""

import logging
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from app.cli.serving.service_redis import service_redis
from app.core.redis import server as module
from app.core.redis.failure import explained
from app.core.redis.server import UnusableRedis, check_at_start, fault_of
from app.core.settings import ServiceSettings
from tests.app.records import queued
from tests.conftest import state_machine
from tests.redis_servers import cluster, server


@pytest.mark.parametrize("version", ["6.2.14", "7.0.15", "7.1.240", "", "unknown"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    assert str(fault_of({"redis_version": version})).endswith("Redis 7.2 or later, or Valkey, is needed.")


@pytest.mark.parametrize("version", ["7.2.4", "7.4.0", "8.0.1", "10.0"])
def test_a_server_that_is_new_enough_can_be_used(version: str) -> None:
    assert fault_of({"redis_version": version, "redis_mode": "standalone"}) is None


def test_a_server_that_does_not_answer_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_at_start("redis://:SEKRET@127.0.0.1:1")
    assert caplog.messages == ["Redis cannot be used yet, and is waited for: Nothing listens at Redis's address."]


def test_a_database_that_the_server_does_not_have_is_refused(tmp_path: Path) -> None:
    said = "APEX_REDIS_URL: Redis has no database with the number in its URL."
    with server(tmp_path, 'save ""') as started, pytest.raises(UnusableRedis, match=said):
        check_at_start(f"{started.url}/99")


def test_a_cluster_is_named_where_its_url_has_the_number_of_a_database(tmp_path: Path) -> None:
    with cluster(tmp_path) as started, pytest.raises(UnusableRedis, match="This is a Redis Cluster"):
        check_at_start(f"{started.url}/1")


def test_a_command_makes_no_key_in_a_cluster(tmp_path: Path) -> None:
    with (
        cluster(tmp_path) as started,
        pytest.raises(UnusableRedis, match="This is a Redis Cluster"),
        ExitStack() as stack,
    ):
        stack.enter_context(service_redis(ServiceSettings(redis_url=started.url)))


def test_no_step_is_taken_by_a_server_that_is_too_old(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have come up, or become master, after the start."""
    monkeypatch.setattr(module, "MIN_VERSION", (99, 0))
    with pytest.raises(ResponseError) as refused:
        queued(state_machine(redis))
    assert explained(refused.value) == "The server is too old: Redis 7.2 or later, or Valkey, is needed."
    assert redis.keys() == []
