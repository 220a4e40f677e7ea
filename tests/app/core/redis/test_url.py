"""Redis URLs: every form leads to the server that it names; what cannot be used is refused, and shown to nobody."""

import pytest

from app.core.redis.url import BadRedisUrl, RedisUrl
from app.core.settings import ServiceSettings

SECRET = "SEKRET"
SERVERS = {
    "redis://h": {"host": "h"},
    "redis://": {},
    "redis:///1": {"db": 1},
    "Valkey://h:1/2": {"host": "h", "port": 1, "db": 2},
    "redis://u:p%2F%40@[::1]:1/0": {"username": "u", "password": "p/@", "host": "::1", "port": 1, "db": 0},
    "redis://h?db=3&password=x": {"host": "h", "db": 3, "password": "x"},
    "valkeys://h?ssl_check_hostname=no": {"host": "h", "ssl_check_hostname": False},
    "unix://u:p@/tmp/x@y?db=3": {"path": "/tmp/x@y", "username": "u", "password": "p", "db": 3},
}
UNUSABLE = {
    f"{SECRET}": "must begin with",
    f"http://:{SECRET}@h": "must begin with",
    f"redis://:{SECRET}part/more@h/0": "%2F",
    f"redis://:12/{SECRET}@h": "%2F",
    f"redis://user:12?{SECRET}@h": "%2F",
    f"redis://:{SECRET}#x@h": "%23",
    f"redis://:{SECRET}[@h": "%2F",
    f"redis://h:{SECRET}": "port",
    "redis://h:0": "port",
    "redis://h:65536": "port",
    f"redis://h/{SECRET}": "database",
    f"redis://:{SECRET}@h/0\n": "control character",
    "redis://h?retry=3": "retry",
    f"redis://h?password={SECRET}&protocol=9": "protocol",
    f"redis://h?{SECRET}=1": "options",
    f"redis://h?db={SECRET}": "options",
    "redis://h?ssl_ca_certs=/x": "ssl_ca_certs",
    f"rediss://h?ssl_ca_certs=/{SECRET}": "ssl_ca_certs",
    f"rediss://h?ssl_certfile=/{SECRET}": "ssl_certfile",
    f"rediss://h?ssl_cert_reqs={SECRET}": "ssl_cert_reqs",
    "unix://": "socket",
    "redis+sentinel://a:1": "name",
    "redis+sentinel://a:1,/m": "host:port",
    f"redis+sentinel://:{SECRET}@a:1/m/x": "database",
    f"redis+sentinel://a:1/m?sentinel_{SECRET}=x": "sentinel_password",
}


@pytest.mark.parametrize("url", SERVERS)
def test_a_url_names_a_server(url: str) -> None:
    assert RedisUrl.parse(url).options == SERVERS[url]


def test_a_url_names_the_sentinels_of_a_master() -> None:
    url = "redis+sentinel://u:p@a:1,b,[::1]:3/m/2?sentinel_password=s&socket_timeout=3"
    parsed = RedisUrl.parse(url)
    assert parsed.sentinels == (("a", 1), ("b", 26379), ("::1", 3))
    assert (parsed.master_name, parsed.transport) == ("m", "redis")
    assert parsed.options == {"username": "u", "password": "p", "db": 2, "socket_timeout": 3.0}
    assert parsed.sentinel_options == {"password": "s"}


def test_sentinels_are_reached_over_tls_as_their_master_is() -> None:
    parsed = RedisUrl.parse("valkeys+sentinel://a/m?ssl_cert_reqs=none")
    assert parsed.transport == "rediss"
    assert parsed.sentinel_options == {"ssl_cert_reqs": "none"}


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(BadRedisUrl) as refused:
        RedisUrl.parse(url)
    assert UNUSABLE[url] in str(refused.value)
    assert SECRET not in f"{refused.value!r} {refused.value.__cause__} {refused.value.__suppress_context__}"


def test_no_text_about_a_url_or_about_the_settings_holds_a_password() -> None:
    url = f"redis+sentinel://u:{SECRET}@h/m?sentinel_password={SECRET}"
    assert SECRET not in f"{RedisUrl.parse(url)!r} {ServiceSettings(redis_url=url)!r}"
