"""Which URLs and addresses may be called: everything that has ever been a way around such rules is refused."""

from ipaddress import ip_network

import pytest

from app.core.egress_rules import LOOPBACK, EgressForbidden, EgressRules, Reason

ANY_HOST = EgressRules(("*",))
ON_THIS_MACHINE = EgressRules(("*",), networks=LOOPBACK)


def refusal(rules: EgressRules, url: str) -> Reason:
    with pytest.raises(EgressForbidden) as refused:
        rules.check_url(url)
    return refused.value.reason


def address_is_called(rules: EgressRules, *addresses: str, host: str = "name.example") -> bool:
    try:
        rules.check_addresses(addresses, host)
    except EgressForbidden:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/track.mp3",
        "https://cdn.example",
        "https://cdn.example:443?key=a%20b#c",
        "HTTPS://CDN.Example/~a/b.mp3?X-Amz-Signature=0f&b=//@:",
        "https://xn--mnchen-3ya.example/",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1::1]/",
    ],
)
def test_ordinary_urls_are_called(url: str) -> None:
    assert ANY_HOST.check_url(url) == url.split("/")[2].lower().split("?")[0].removesuffix(":443").strip("[]")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://cdn.example/", Reason.SCHEME),
        ("ftp://cdn.example/", Reason.SCHEME),
        ("file:///etc/passwd", Reason.SCHEME),
        ("//cdn.example/", Reason.SCHEME),
        ("https:/cdn.example/", Reason.SCHEME),
        (" https://cdn.example/", Reason.SCHEME),
        ("https://user:secret@cdn.example/", Reason.USERINFO),
        ("https://cdn.example@127.0.0.1/", Reason.USERINFO),
        ("https://@cdn.example/", Reason.USERINFO),
        (r"https://127.0.0.1\@cdn.example/", Reason.USERINFO),
        (r"https://cdn.example\.evil.example/", Reason.MALFORMED),
        ("https://cdn.example\t/", Reason.MALFORMED),
        ("https://cdn.example/\r\nHost: evil.example", Reason.MALFORMED),
        ("https://cdn.example/\n", Reason.MALFORMED),
        ("https://cdn.example/a b", Reason.MALFORMED),
        ("https://cdn%2eexample/", Reason.MALFORMED),
        ("https:///track.mp3", Reason.MALFORMED),
        ("https://cdn.example:/", Reason.MALFORMED),
        ("https://cdn.example:443:443/", Reason.MALFORMED),
        # names that end in a dot, or have an empty part
        ("https://cdn.example./", Reason.MALFORMED),
        ("https://127.0.0.1./", Reason.MALFORMED),
        ("https://cdn..example/", Reason.MALFORMED),
        ("https://.cdn.example/", Reason.MALFORMED),
        # names in other scripts, among them digits and dots that are taken for ASCII ones
        ("https://münchen.example/", Reason.MALFORMED),
        ("https://１２７.０.０.１/", Reason.MALFORMED),
        ("https://127。0。0。1/", Reason.MALFORMED),
        ("https://ⓛocalhost/", Reason.MALFORMED),
        ("https://cdn.example/ü", Reason.MALFORMED),
        # addresses in decimal, octal, hexadecimal, and with parts left out
        ("https://2130706433/", Reason.MALFORMED),
        ("https://0177.0.0.1/", Reason.MALFORMED),
        ("https://0x7f.0.0.1/", Reason.MALFORMED),
        ("https://0x7f000001/", Reason.MALFORMED),
        ("https://127.1/", Reason.MALFORMED),
        ("https://127.0.0.01/", Reason.MALFORMED),
        ("https://127.0.0.1.1/", Reason.MALFORMED),
        ("https://1.2.3.256/", Reason.MALFORMED),
        # zones, and what is no IPv6 address
        ("https://[fe80::1%25eth0]/", Reason.MALFORMED),
        ("https://[fe80::1%eth0]/", Reason.MALFORMED),
        ("https://[::1/", Reason.MALFORMED),
        ("https://[127.0.0.1]:80:80/", Reason.MALFORMED),
        ("https://::1/", Reason.MALFORMED),
        ("https://[1::2::3]/", Reason.MALFORMED),
        # ports
        ("https://cdn.example:22/", Reason.PORT),
        ("https://cdn.example:80/", Reason.PORT),
        ("https://cdn.example:0/", Reason.PORT),
        ("https://cdn.example:65979/", Reason.MALFORMED),
        # plain addresses
        ("https://127.0.0.1/", Reason.ADDRESS),
        ("https://[::1]/", Reason.ADDRESS),
        ("https://[::ffff:127.0.0.1]/", Reason.ADDRESS),
        ("https://169.254.169.254/latest/meta-data/", Reason.ADDRESS),
    ],
)
def test_every_way_around_is_refused(url: str, reason: Reason) -> None:
    assert refusal(ANY_HOST, url) == reason


def test_a_refusal_shows_nothing_of_the_url() -> None:
    with pytest.raises(EgressForbidden) as refused:
        ANY_HOST.check_url("https://user:hush@cdn.example/hush?signature=hush")
    assert "hush" not in str(refused.value) + repr(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        *["0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.0.1", "169.254.169.254"],
        *["172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"],
        *["198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"],
        *["100.100.100.200", "168.63.129.16"],
        *["::", "::1", "::127.0.0.1", "::93.184.216.34", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "ff02::1"],
        *["fd00:ec2::254", "100::1", "2001:db8::1", "3fff::1", "5f00::1"],
        *["::ffff:127.0.0.1", "::ffff:93.184.216.34", "::ffff:0:127.0.0.1"],  # IPv4, mapped and translated
        *["64:ff9b::7f00:1", "64:ff9b::5db8:d822", "64:ff9b:1::1"],  # NAT64
        *["2002:7f00:1::1", "2002:5db8:d822::1", "2001:0:5db8:d822::1"],  # 6to4, Teredo
    ],
)
def test_only_addresses_of_the_internet_are_called(address: str) -> None:
    assert not address_is_called(ANY_HOST, address)


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:2800:220:1::1", "2a00:1450:4001::200e"])
def test_hosts_of_the_internet_are_called(address: str) -> None:
    assert address_is_called(ANY_HOST, address)


def test_one_forbidden_address_forbids_the_name() -> None:
    assert not address_is_called(ANY_HOST, "93.184.216.34", "10.0.0.1")


@pytest.mark.parametrize(
    ("pattern", "host", "called"),
    [
        ("*", "cdn.example", True),
        ("cdn.example", "cdn.example", True),
        ("cdn.example", "a.cdn.example", False),
        ("cdn.example", "evilcdn.example", False),
        ("*.cdn.example", "a.cdn.example", True),
        ("*.cdn.example", "a.b.cdn.example", True),
        ("*.cdn.example", "cdn.example", False),
        ("*.cdn.example", "evilcdn.example", False),
        ("*.cdn.example", "a.cdn.example.evil.example", False),
    ],
)
def test_hosts_are_named_or_below_a_name(pattern: str, host: str, called: bool) -> None:
    rules = EgressRules((pattern,))
    if called:
        assert rules.check_url(f"https://{host}/") == host
    else:
        assert refusal(rules, f"https://{host}/") == Reason.HOST


def test_nothing_is_called_where_no_host_is_named() -> None:
    assert refusal(EgressRules(()), "https://cdn.example/") == Reason.HOST


def test_a_private_network_can_be_allowed_and_nothing_beside_it() -> None:
    rules = EgressRules(("*",), networks=(ip_network("10.20.0.0/16"),))
    assert address_is_called(rules, "10.20.3.4", "93.184.216.34")
    assert not address_is_called(rules, "10.21.0.1")
    assert refusal(rules, "http://10.20.3.4/") == Reason.SCHEME
    assert refusal(rules, "https://10.20.3.4:9000/") == Reason.PORT


def test_no_allowed_network_opens_metadata_services() -> None:
    rules = EgressRules(("*",), networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    for address in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0"):
        assert not address_is_called(rules, address)


@pytest.mark.parametrize("url", ["http://localhost:8123/", "http://127.0.0.1:8123/", "https://[::1]:1/"])
def test_this_machine_is_called_at_any_port_and_without_tls_where_it_is_allowed(url: str) -> None:
    ON_THIS_MACHINE.check_url(url)
    assert refusal(ANY_HOST, url) in (Reason.SCHEME, Reason.PORT)


def test_a_port_is_one_that_there_is() -> None:
    assert refusal(ON_THIS_MACHINE, "http://localhost:65536/") == Reason.MALFORMED


def test_plain_http_reaches_no_other_machine() -> None:
    assert refusal(ON_THIS_MACHINE, "http://cdn.example/") == Reason.SCHEME
    assert not address_is_called(ON_THIS_MACHINE, "93.184.216.34", host="localhost")
