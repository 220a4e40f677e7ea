"""The documents of the page and their files: what is cached, what is compressed, what is allowed to run."""

import gzip
import re
from pathlib import Path

import httpx
import pytest
from redis import Redis

from app.api.routes.model import CAVEATS
from app.core.settings import ApiSettings
from app.main import create_app
from app.web.files import STATIC, PageFiles
from tests.clients.npm import MODULES

pytestmark = pytest.mark.anyio

DOCUMENTS = ["/", "/ops"]
FIRST_LOAD_BYTES = 60_000
LINK = re.compile(r'(?:href|src)="([^"#]*)"')


def links(html: str) -> set[str]:
    return set(LINK.findall(html))


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_every_path_of_a_document_is_relative_and_leads_somewhere(client: httpx.AsyncClient, path: str) -> None:
    html = (await client.get(path)).text
    for link in links(html) - {"./"}:
        assert re.match(r"[a-z]", link), link
        assert "//" not in link
        if link != "model":  # asks Redis
            assert (await client.get(f"/{link}")).status_code == 200, link


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_document_is_asked_for_anew_and_runs_no_code_of_its_own(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text) == []


async def test_a_file_is_kept_for_ever_under_a_name_that_changes_with_its_bytes(client: httpx.AsyncClient) -> None:
    files = PageFiles.read()
    answer = await client.get(f"/web/{files.digest}/app.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (await client.get("/web/0123456789abcdef/app.js")).status_code == 404
    assert (await client.get(f"/web/{files.digest}/../page.py")).status_code == 404


def test_the_name_of_the_files_changes_with_any_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    before = PageFiles.read(tmp_path).digest
    (tmp_path / "a.js").write_text("2")
    assert PageFiles.read(tmp_path).digest != before


async def test_files_are_compressed_for_those_who_accept_it(client: httpx.AsyncClient) -> None:
    path = f"/web/{PageFiles.read().digest}/app.js"
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content == (STATIC / "app.js").read_bytes()


async def test_a_first_visit_loads_less_than_60_kb(client: httpx.AsyncClient) -> None:
    html = (await client.get("/")).text
    loaded = {link for link in links(html) if link.startswith(("web/", "static/"))}
    assert any(link.endswith("waveform.js") for link in loaded)
    sizes = [len(gzip.compress((await client.get(f"/{link}")).content)) for link in loaded]
    assert sum(sizes) + len(gzip.compress(html.encode())) < FIRST_LOAD_BYTES


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_the_page_can_be_left_out(settings: ApiSettings, redis: Redis, path: str) -> None:
    app = create_app(settings.model_copy(update={"page": False}), redis=redis)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_page_is_there_under_a_path_of_its_host(settings: ApiSettings, redis: Redis) -> None:
    app = create_app(settings.model_copy(update={"root_path": "/music/apex"}), redis=redis)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for path in ("/music/apex/", "/", "/music/apex/ops"):
            assert (await client.get(path)).headers["content-type"].startswith("text/html")


def test_the_error_that_the_page_names_is_that_of_the_model_card() -> None:
    [points] = re.findall(r"POPULARITY_ERROR = (\d+);", (STATIC / "state/meaning.js").read_text())
    assert any(f"{points} points" in caveat for caveat in CAVEATS)


def test_the_font_is_the_published_one_and_has_its_licence() -> None:
    """`npm ci` has checked the package against the lock."""
    package = MODULES / "@fontsource-variable/figtree"
    assert (STATIC / "figtree.woff2").read_bytes() == (package / "files/figtree-latin-wght-normal.woff2").read_bytes()
    assert (STATIC / "figtree-licence.txt").read_bytes() == (package / "LICENSE").read_bytes()
