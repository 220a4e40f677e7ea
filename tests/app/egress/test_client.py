"""The guarded client reaches what the rules allow, with real sockets and with resolvers that lie."""

import asyncio
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.egress_rules import LOOPBACK, EgressForbidden, EgressRules, Reason
from app.egress.client import Resolve, guarded_client
from tests.app.egress.servers import receiver
from tests.tls import Certificates, make_certificates

#: What a network of documentation answers with: nobody is there.
NOBODY = "192.0.2.1"
EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
ON_THIS_MACHINE = EgressRules(("*",), networks=LOOPBACK)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names="subjectAltName=DNS:cdn.example")


class Names:
    """A resolver whose answers were set, one after the other; the last one stays."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self.answers, self.asked = answers, list[str]()

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, OSError):
            raise answer
        return answer


def get(
    url: str,
    *,
    rules: EgressRules = ON_THIS_MACHINE,
    names: Resolve | None = None,
    ca_file: Path | None = None,
    follow_redirects: bool = False,
) -> httpx.Response:
    async def call() -> httpx.Response:
        async with guarded_client(rules, timeout_s=20, ca_file=ca_file, resolve=names) as client:
            return await client.get(url, follow_redirects=follow_redirects)

    return asyncio.run(call())


def rules_for(port: int) -> EgressRules:
    return EgressRules(("*",), frozenset({port}), LOOPBACK)


def refusal(url: str, *, rules: EgressRules, names: Resolve | None = None) -> Reason:
    with pytest.raises(EgressForbidden) as refused:
        get(url, rules=rules, names=names)
    return refused.value.reason


def test_this_machine_is_called_where_it_is_allowed() -> None:
    with receiver() as server:
        assert get(f"http://127.0.0.1:{server.port}/a?b=c").content == b"audio"
    assert server.calls == [(f"127.0.0.1:{server.port}", "/a?b=c")]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine_is_not_called_otherwise(host: str) -> None:
    with receiver() as server:
        rules = EgressRules(("*",), frozenset({server.port}))
        assert refusal(f"https://{host}:{server.port}/", rules=rules) == Reason.ADDRESS
    assert server.calls == []


def test_tls_and_host_keep_the_name_while_the_connection_goes_to_the_checked_address(
    certificates: Certificates,
) -> None:
    names = Names(["127.0.0.2"])
    with receiver("127.0.0.2", tls=certificates["server"]) as server:
        url = f"https://cdn.example:{server.port}/track"
        answer = get(url, rules=rules_for(server.port), names=names, ca_file=certificates["ca.pem"])
    assert answer.status_code == 200
    assert str(answer.request.url) == url
    assert server.calls == [(f"cdn.example:{server.port}", "/track")]
    assert names.asked == ["cdn.example"]


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
def test_a_certificate_of_another_name_is_refused(certificates: Certificates, host: str) -> None:
    with receiver(tls=certificates["server"]) as server:
        url, names = f"https://{host}:{server.port}/", Names(["127.0.0.1"])
        with pytest.raises(httpx.ConnectError, match="verify failed"):
            get(url, rules=rules_for(server.port), names=names, ca_file=certificates["ca.pem"])
    assert server.calls == []


def test_an_authority_that_nobody_trusts_is_refused(certificates: Certificates) -> None:
    with receiver(tls=certificates["server"]) as server, pytest.raises(httpx.ConnectError, match="verify failed"):
        get(f"https://cdn.example:{server.port}/", rules=rules_for(server.port), names=Names(["127.0.0.1"]))
    assert server.calls == []


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(certificates: Certificates) -> None:
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    with (
        receiver("127.0.0.2", tls=certificates["server"]) as checked,
        receiver("127.0.0.1", port=checked.port, tls=certificates["server"]) as rebound,
    ):
        rules = EgressRules(("*",), frozenset({checked.port}), (IPv4Network("127.0.0.2/32"),))
        url = f"https://cdn.example:{checked.port}/"
        assert get(url, rules=rules, names=names, ca_file=certificates["ca.pem"]).status_code == 200
        assert refusal(url, rules=rules, names=Names(["127.0.0.1"])) == Reason.ADDRESS
    assert (len(names.asked), len(checked.calls), rebound.calls) == (1, 1, [])


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::1"],
        ["fe80::1%eth0"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
    ],
)
def test_a_name_with_a_forbidden_address_is_not_called(answer: list[str]) -> None:
    assert refusal("https://cdn.example/", rules=EgressRules(("*",)), names=Names(answer)) == Reason.ADDRESS


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "１２７.０.０.１", "127。0。0。1"])
def test_no_spelling_of_an_address_reaches_this_machine(host: str) -> None:
    with receiver() as server:
        rules = EgressRules(("*",), frozenset({server.port}))
        with pytest.raises((EgressForbidden, httpx.InvalidURL)):
            get(f"https://{host}:{server.port}/", rules=rules)
    assert server.calls == []


@given(st.from_regex(r"\Ahttps://[a-z0-9.@:/?#%\[\]\\_-]{1,30}\Z"))
def test_everybody_reads_the_same_host_in_a_url_that_may_be_called(url: str) -> None:
    try:
        host = EgressRules(("*",), networks=EVERYTHING).check_url(url)
    except EgressForbidden:
        return
    assert httpx.URL(url).host == urlsplit(url).hostname == host


def test_the_next_address_is_tried_where_nobody_listens() -> None:
    with receiver("127.0.0.1") as server:
        names = Names(["127.0.0.9", "127.0.0.1"])
        assert get(f"http://localhost:{server.port}/", names=names).status_code == 200
    assert len(server.calls) == 1


def test_no_redirect_is_followed() -> None:
    with receiver() as target, receiver(status=302, headers={"Location": f"http://127.0.0.1:{target.port}/"}) as server:
        assert get(f"http://127.0.0.1:{server.port}/").status_code == 302
    assert target.calls == []


def test_a_redirect_that_a_caller_wants_followed_is_checked_like_a_request() -> None:
    with receiver(status=302, headers={"Location": "https://169.254.169.254/"}) as server:
        with pytest.raises(EgressForbidden):
            get(f"http://127.0.0.1:{server.port}/", follow_redirects=True)
        assert len(server.calls) == 1


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")


@pytest.mark.usefixtures("proxy")
def test_proxies_of_the_environment_are_not_used() -> None:
    with receiver() as server:
        assert get(f"http://127.0.0.1:{server.port}/").status_code == 200


def test_no_cookie_is_kept() -> None:
    async def cookies() -> list[str]:
        async with guarded_client(ON_THIS_MACHINE, timeout_s=20) as client:
            await client.get(f"http://127.0.0.1:{server.port}/")
            return list(client.cookies)

    with receiver(headers={"Set-Cookie": "a=b"}) as server:
        assert asyncio.run(cookies()) == []


def test_a_name_that_does_not_exist_is_a_failed_connection() -> None:
    with pytest.raises(httpx.ConnectError):
        get("https://cdn.example/", names=Names(OSError("no such name")))


def test_a_resolver_that_does_not_answer_is_left_after_the_timeout() -> None:
    async def hang(host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def call() -> None:
        async with guarded_client(ON_THIS_MACHINE, timeout_s=0.05, resolve=hang) as client:
            await client.get("https://cdn.example/")

    with pytest.raises(httpx.ConnectTimeout):
        asyncio.run(call())
