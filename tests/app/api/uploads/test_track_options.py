"""`POST /score`: what may be said about a track."""

import json
from typing import Any

import httpx
import pytest

from tests.app.api.asgi import FORM, RAW, SECRET, WAV, form, part, track_form
from tests.app.api.track_requests import post_form

pytestmark = pytest.mark.anyio


def metadata(**items: Any) -> str:
    return json.dumps(items)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (SECRET, "#/metadata"),
        ("[]", "#/metadata"),
        ('"x"', "#/metadata"),
        ("[" * 10_000, "#/metadata"),
        ('{"a": "\\ud800"}', "#/metadata"),
        (metadata(**{f"k{n}": "v" for n in range(17)}), "#/metadata"),
        (metadata(album="v" * 513), "#/metadata/album"),
        (metadata(bpm=120), "#/metadata/bpm"),
        (metadata(**{SECRET + "x" * 64: "v"}), "#/metadata"),
        (metadata(**{"": "v"}), "#/metadata"),
    ],
)
async def test_metadata_is_a_small_object_of_strings(client: httpx.AsyncClient, text: str, pointer: str) -> None:
    for answer in (
        await client.post("/score", params={"metadata": text}, content=WAV, headers=RAW),
        await post_form(client, form(part("file", WAV), part("metadata", text.encode()))),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
        assert answer.json()["errors"][0]["pointer"] == pointer


async def test_metadata_may_be_as_large_as_its_limits(client: httpx.AsyncClient) -> None:
    items = {f"{n:02}" + "k" * 62: "\U0001f3b5" * 512 for n in range(16)}
    body = form(part("file", WAV), part("metadata", json.dumps(items, ensure_ascii=False).encode()))
    assert (await post_form(client, body)).json()["metadata"] == items


async def test_an_option_is_given_once_wherever_it_is_given(client: httpx.AsyncClient) -> None:
    for url, body in (
        ("/score?external_id=a&external_id=b", track_form()),
        ("/score?external_id=a", form(part("external_id", b"b"), part("file", WAV))),
    ):
        answer = await client.post(url, content=body, headers=FORM)
        assert answer.json()["errors"] == [{"pointer": "#/external_id", "detail": "Given more than once."}]


async def test_an_unknown_query_parameter_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"/score?callback_url={SECRET}", content=WAV, headers=RAW)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/callback_url")


async def test_empty_options_count_as_absent(client: httpx.AsyncClient) -> None:
    names = ("external_id", "metadata", "model_version", "batch_id")
    sent_in_form = await post_form(client, form(*[part(name, b"") for name in names], part("file", WAV)))
    query = "&".join(f"{name}=" for name in names)
    sent_in_query = await client.post(f"/score?{query}", content=WAV, headers=RAW)
    for answer in (sent_in_form, sent_in_query):
        assert answer.status_code == 202
        assert (answer.json()["external_id"], answer.json()["metadata"]) == (None, {})
