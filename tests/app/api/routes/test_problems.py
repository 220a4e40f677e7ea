"""`/problems`: a page for each kind of problem."""

import re
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


PAGES = ("/problems", "/problems/not-found", "/nowhere")
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_suits_every_screen_and_loads_its_own_style_alone(client: httpx.AsyncClient, path: str) -> None:
    page = (await client.get(path, headers=BROWSER)).text
    assert page.count("<main>") == page.count("<h1>") == 1
    assert 'name="viewport"' in page
    assert '<meta name="color-scheme" content="light dark">' in page
    assert "<script" not in page
    loaded = re.findall(r'<link [^>]*href="([^"]+)"', page)
    assert loaded == ["/static/favicon.svg", "/static/page.css"]
    assert [(await client.get(file)).status_code for file in loaded] == [200, 200]


@pytest.mark.parametrize("path", [*PAGES, "/docs"])
async def test_a_page_runs_nothing_foreign_and_stands_in_no_frame(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path, headers=BROWSER)).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'none'",) * 3
    assert policy.get("script-src", "'self'") == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


async def test_a_browser_gets_a_page_for_an_error_and_a_program_gets_json(client: httpx.AsyncClient) -> None:
    answer = await client.get("/jobs/job_1", headers=BROWSER | {"X-Request-Id": "r-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such job." in answer.text
    assert "r-1" in answer.text
    for headers in ({}, {"Accept": "application/json, text/html"}, BROWSER | {"X-API-Key": "k"}):
        assert (await client.get("/jobs/job_1", headers=headers)).json()["code"] == "not_found"
    assert (await client.post("/jobs/job_1/cancel", headers=BROWSER)).json()["code"] == "not_found"


def test_what_a_page_shows_is_escaped() -> None:
    kind = replace(PROBLEMS["not_found"], title="<script>", meaning="<b>")
    page = render("problem.html", kind=kind)
    assert "<h1>&lt;script&gt;</h1>" in page
    assert "<p>&lt;b&gt;</p>" in page


def test_what_stands_between_backticks_is_code() -> None:
    assert code("a < b, `<c>`") == "a &lt; b, <code>&lt;c&gt;</code>"
