"""The headers of a submission: how each is parsed, and which are refused before the body."""

import base64
import hashlib

import httpx
import pytest
from fastapi import FastAPI

from app.api.submissions.headers import MAX_CANCEL_AFTER_S, parse_cancel_after, parse_digest, parse_key
from app.core.problems import Problem
from tests.app.api.asgi import RAW, Client, check_problem

pytestmark = pytest.mark.anyio

DIGEST = hashlib.sha256(b"x")
SAID = f"sha-256=:{base64.b64encode(DIGEST.digest()).decode()}:"


@pytest.mark.parametrize(
    ("value", "key"), [("a", "a"), ('"a"', "a"), (' "a-b" ', "a-b"), ("~" * 255, "~" * 255), (r"a\b:;=,", r"a\b:;=,")]
)
def test_a_key_is_the_same_with_and_without_quotes(value: str, key: str) -> None:
    assert parse_key(value) == key


@pytest.mark.parametrize(
    "value", ["", '""', "a b", "x" * 256, f'"{"x" * 256}"', '"a', 'a"', 'a"b', "ü", "a\tb", "\x7f"]
)
def test_a_key_is_visible_ascii(value: str) -> None:
    with pytest.raises(Problem, match="bad_header"):
        parse_key(value)


@pytest.mark.parametrize("value", [SAID, f"sha-512=:eA==:, {SAID}", f"{SAID},md5=:eA==:", f"{SAID} "])
def test_the_sha_256_of_a_digest_is_taken(value: str) -> None:
    assert parse_digest(value) == DIGEST.hexdigest()


@pytest.mark.parametrize(
    "value", ["", "sha-256", "sha-512=:eA==:", SAID[:-1], SAID.replace("=:", "=", 1), f"x{SAID}", DIGEST.hexdigest()]
)
def test_a_digest_that_cannot_be_checked_is_refused(value: str) -> None:
    with pytest.raises(Problem, match="bad_header"):
        parse_digest(value)


@pytest.mark.parametrize(
    ("value", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("168h", MAX_CANCEL_AFTER_S)]
)
def test_a_deadline_is_a_number_with_a_unit(value: str, seconds: int) -> None:
    assert parse_cancel_after(value) == seconds


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "10 m", "1d", "PT10M", "169h", "9" * 20, "m"])
def test_a_deadline_that_cannot_be_read_is_refused(value: str) -> None:
    with pytest.raises(Problem, match="bad_header"):
        parse_cancel_after(value)


@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Digest", "Cancel-After"])
async def test_a_bad_header_is_refused_before_the_body(app: FastAPI, name: str) -> None:
    client = Client(app, [])
    answer = await client.post("/score", RAW | {name: "ü"})
    check_problem(400, answer.headers["content-type"], answer.json())
    assert (answer.json()["code"], client.asked) == ("bad_header", 0)


async def test_a_header_given_twice_is_refused(client: httpx.AsyncClient) -> None:
    headers = [*RAW.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await client.post("/score", content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_header")
