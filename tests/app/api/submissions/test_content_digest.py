"""`Content-Digest`: a body that differs is refused, and a repeated one need not be read."""

import httpx
import pytest
from fastapi import FastAPI

from app.api.dependencies import Services
from tests.app.api.asgi import (
    BOUNDARY,
    FORM,
    RAW,
    WAV,
    digest,
    track_form,
)
from tests.app.api.submissions.requests import KEY, OTHER_WAV, asked, code, files, jobs_of, repeat

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("headers", "body"), [(RAW, WAV), (FORM, track_form())])
async def test_a_body_is_what_its_digest_says_or_it_is_refused(
    client: httpx.AsyncClient, services: Services, headers: dict[str, str], body: bytes
) -> None:
    wrong = await client.post("/score", content=body, headers=headers | digest(body + b"x"))
    assert code(wrong) == (400, "digest_mismatch")
    assert files(services) == jobs_of(services) == []
    assert (await client.post("/score", content=body, headers=headers | digest(body))).status_code == 202


async def test_a_retry_with_a_digest_is_answered_without_its_body(client: httpx.AsyncClient, app: FastAPI) -> None:
    first = await repeat(client)
    big = {"Content-Length": "90000000"}
    answer, n_asked = await asked(app, RAW | KEY | digest(WAV) | big)
    assert (answer.status, n_asked) == (202, 0)
    assert answer.messages[1]["body"] == first.content
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.headers["connection"] == "close"
    answer, n_asked = await asked(app, RAW | KEY | digest(OTHER_WAV) | big)
    assert (answer.json()["code"], n_asked) == ("idempotency_key_reused", 0)


async def test_a_form_with_a_digest_is_answered_without_its_body_when_it_is_the_same_form(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    body = track_form()
    first = await client.post("/score", content=body, headers=FORM | KEY | digest(body))
    answer, n_asked = await asked(app, FORM | KEY | digest(body))
    assert (answer.messages[1]["body"], n_asked) == (first.content, 0)
    other = body.replace(BOUNDARY, b"another")
    headers = {"Content-Type": "multipart/form-data; boundary=another"} | KEY | digest(other)
    answer, n_asked = await asked(app, headers, other)
    assert (answer.messages[1]["body"], n_asked) == (first.content, 2)
