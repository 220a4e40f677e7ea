"""What is wrong with Redis is told apart: an operator reads where to look, and no secret."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from app.core.redis.client import connect, connect_for_notifications
from app.core.redis.failure import brief, explained, never_connected
from tests.redis_servers import Server, server
from tests.tls import Certificates, make_certificates, tls_in_front_of

SECRET = "SEKRET"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("redis"), 'save ""', f"requirepass {SECRET}") as started:
        yield started


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_port(redis: Redis, redis_url: str, certificates: Certificates) -> Iterator[int]:
    assert redis.ping()
    with tls_in_front_of(redis_url.removeprefix("unix://"), certificates) as port:
        yield port


def said_of(url: str) -> str:
    """The sentence about the error of a client of this URL."""
    with connect(url, max_retries=0, timeout_s=1.5) as redis, pytest.raises(RedisError) as failed:
        redis.ping()
    assert SECRET not in explained(failed.value) + brief(failed.value)
    return explained(failed.value)


def test_a_missing_and_a_wrong_password_and_a_wrong_user_are_named(guarded: Server) -> None:
    assert "asks for a password" in said_of(guarded.url)
    for credentials in (f":{SECRET}x", f"nobody:{SECRET}"):
        assert "refuses the user or the password" in said_of(guarded.url.replace("//", f"//{credentials}@"))


def test_an_address_where_no_redis_is_is_named(tmp_path: Path) -> None:
    assert "cannot be resolved" in said_of(f"redis://:{SECRET}@no-such.invalid")
    assert "Nothing listens" in said_of(f"redis://:{SECRET}@127.0.0.1:1")
    assert "no socket" in said_of(f"unix://{tmp_path}/none.sock")
    assert "No Sentinel" in said_of(f"redis+sentinel://:{SECRET}@127.0.0.1:1/m?sentinel_password={SECRET}")


def test_a_connection_that_never_came_about_is_told_from_one_that_was_lost(tmp_path: Path, guarded: Server) -> None:
    for url in ("redis://127.0.0.1:1", "redis://no-such.invalid", f"unix://{tmp_path}/none.sock"):
        with connect(url, max_retries=0) as redis, pytest.raises(RedisError) as failed:
            redis.ping()
        assert never_connected(failed.value)
    with connect(guarded.url.replace("//", f"//:{SECRET}@"), max_retries=0) as redis:
        with pytest.raises(RedisError) as failed:
            redis.pipeline().client_kill_filter(skipme=False, _type="normal").ping().execute()
        assert not never_connected(failed.value)


def test_each_failure_of_tls_is_named(tls_port: int, guarded: Server, certificates: Certificates) -> None:
    address, own = f"rediss://127.0.0.1:{tls_port}", certificates.options
    assert "its certificate is not accepted" in said_of(address)
    assert "client certificate" in said_of(f"{address}?{own(client=False)}")
    assert "asks for TLS" in said_of(f"redis://127.0.0.1:{tls_port}")
    assert "TLS with Redis failed" in said_of(guarded.url.replace("redis:", "rediss:"))


def test_a_client_with_its_certificate_is_let_in(tls_port: int, certificates: Certificates) -> None:
    with connect(f"valkeys://127.0.0.1:{tls_port}?{certificates.options()}", max_retries=0) as redis:
        assert redis.ping()


@pytest.mark.anyio
async def test_the_client_for_notifications_is_let_in(tls_port: int, certificates: Certificates) -> None:
    client = connect_for_notifications(f"rediss://127.0.0.1:{tls_port}?{certificates.options()}")
    try:
        assert await client.ping()
    finally:
        await client.aclose()
