"""`/problems`: a page for each kind of problem."""

import httpx
import pytest

from app.api.routes.problems import marked_up
from app.core.problems import PROBLEMS

pytestmark = pytest.mark.anyio


async def test_every_type_leads_to_a_page(client: httpx.AsyncClient) -> None:
    overview = (await client.get("/problems")).text
    for kind in PROBLEMS.values():
        page = await client.get(kind.type)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert kind.code in page.text
        assert f'href="{kind.type}"' in overview


async def test_an_unknown_problem_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/problems/<script>")).status_code == 404


async def test_a_page_says_what_happened_what_to_do_and_whether_to_retry(client: httpx.AsyncClient) -> None:
    for kind in PROBLEMS.values():
        page = (await client.get(kind.type)).text
        assert marked_up(kind.meaning) in page
        assert marked_up(kind.remedy) in page
        assert ("Yes, the same request may work later." in page) is kind.retryable
        assert ("No, the same request will fail again." in page) is not kind.retryable
        assert "`" not in page


async def test_what_a_page_shows_is_escaped() -> None:
    assert marked_up("a < b, `<c>`") == "a &lt; b, <code>&lt;c&gt;</code>"
