"""A parameter in the query that an operation does not know is refused, by every operation of those with a key."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import FORM, RAW, form, part, track_form
from tests.app.api.documented import document
from tests.app.conftest import client_of

pytestmark = pytest.mark.anyio

#: Bodies without which an operation finds something else to refuse first.
FORMS = {"/score": track_form(), "/batches": form(part("files", b"", filename="a"))}
JSON = {"Content-Type": "application/json"}


def operations() -> Iterator[tuple[str, str]]:
    """Method and path of each operation that takes a key."""
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            if method != "parameters" and operation["security"]:
                yield method.upper(), path


def body(method: str, path: str) -> dict[str, object]:
    if method == "POST" and path in FORMS:
        return {"headers": FORM, "content": FORMS[path]}
    return {"headers": RAW if path == "/score/raw" else JSON, "content": b"{}"}


@pytest.mark.parametrize(("method", "path"), list(operations()))
async def test_an_unknown_parameter_is_refused(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, params={"bogus": "1"}, **body(method, path))  # type: ignore[arg-type]
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/bogus"]


@pytest.mark.parametrize("path", ["/score", "/score/url", "/batches", "/batches/urls"])
async def test_options_in_the_query_are_refused_where_they_would_be_lost(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(f"{path}?segments=true", headers=JSON, content=b'{"url": "https://h/a", "items": [1]}')
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/segments")


async def test_a_key_is_asked_for_first(settings: ApiSettings, redis: Redis) -> None:
    closed: FastAPI = create_app(settings.model_copy(update={"require_api_keys": True}), redis=redis)
    async with client_of(closed) as client:
        assert (await client.get("/jobs/job_1?bogus=1")).status_code == 401


@pytest.mark.parametrize("name", ["id", "Last-Event-ID"])
async def test_a_parameter_of_the_path_or_of_a_header_is_none_of_the_query(
    client: httpx.AsyncClient, name: str
) -> None:
    assert (await client.get(f"/jobs/job_1/events?{name}=1")).status_code == 422


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/problems", "/openapi.json"])
async def test_what_is_open_to_all_ignores_it(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"{path}?bogus=1")).status_code == 200
