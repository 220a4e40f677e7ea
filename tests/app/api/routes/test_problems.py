"""`/problems`: a page for each kind of problem."""

from dataclasses import replace

import httpx
import pytest

from app.api.pages import code, render
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
        assert code(kind.meaning) in page
        assert code(kind.remedy) in page
        assert ("Yes, the same request may work later." in page) is kind.retryable
        assert ("No, the same request will fail again." in page) is not kind.retryable
        assert "`" not in page


async def test_a_page_suits_every_screen_and_loads_nothing_else(client: httpx.AsyncClient) -> None:
    for path in ("/problems", "/problems/not-found"):
        page = (await client.get(path)).text
        assert page.count("<main>") == page.count("<h1>") == 1
        assert 'name="viewport"' in page
        assert "color-scheme: light dark" in page
        assert "src=" not in page
        assert "<link" not in page


def test_what_a_page_shows_is_escaped() -> None:
    kind = replace(PROBLEMS["not_found"], title="<script>", meaning="<b>")
    page = render("problem.html", kind=kind)
    assert "<h1>&lt;script&gt;</h1>" in page
    assert "<p>&lt;b&gt;</p>" in page


def test_what_stands_between_backticks_is_code() -> None:
    assert code("a < b, `<c>`") == "a &lt; b, <code>&lt;c&gt;</code>"
