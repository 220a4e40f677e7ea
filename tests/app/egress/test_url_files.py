"""A URL's bytes become a file, or an error with the code that a job would have."""

import io
from collections.abc import Iterator

import pytest

from app.core.egress_rules import LOOPBACK, EgressRules
from app.core.problems import PROBLEMS
from app.egress.url_files import CODES, UrlFiles
from model.domain import AudioError
from tests.app.egress.sources import SECRET, WAV, Source, source

FILES = UrlFiles(EgressRules(("127.0.0.1",), networks=LOOPBACK), len(WAV), 5.0, 20.0, pauses_s=(0.0, 0.0))


@pytest.fixture
def server() -> Iterator[Source]:
    with source() as running:
        yield running


def copied(url: str) -> bytes:
    sink = io.BytesIO(b"of before")
    FILES.copy(url, sink)
    return sink.getvalue()


def test_the_bytes_of_a_url_become_a_file(server: Source) -> None:
    assert copied(server.url("track")) == WAV


def test_what_a_later_try_may_mend_is_tried_again(server: Source) -> None:
    with pytest.raises(AudioError) as error:
        copied(server.url("cut"))
    assert (error.value.code, server.calls["cut"]) == ("url_unreachable", 3)


@pytest.mark.parametrize(
    ("path", "code"), [("gone", "url_status"), ("endless", "url_too_large"), ("redirect", "url_status")]
)
def test_what_no_later_try_mends_is_tried_once(server: Source, path: str, code: str) -> None:
    with pytest.raises(AudioError) as error:
        copied(server.url(path))
    assert (error.value.code, server.calls[path]) == (code, 1)
    assert SECRET not in str(error.value)


def test_a_url_that_the_rules_forbid_is_not_called() -> None:
    with pytest.raises(AudioError) as error:
        copied("https://10.0.0.1/a.wav")
    assert error.value.code == "url_forbidden"


def test_every_code_is_one_of_the_services() -> None:
    assert PROBLEMS.keys() >= set(CODES)
