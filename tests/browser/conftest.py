"""Debian's Chromium, headless, driven through Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.live import Live, live
from tests.installed import installed

#: It runs as root in containers, and calls nobody but the service.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
#: Of the front end without a worker.
MAX_UPLOAD_BYTES = 1024 * 1024
#: What a page shows at last may take long on a machine that is busy.
SHOWN_MS = 60_000


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, until the folder's last test: no event loop runs while Playwright's own is alive in the thread."""
    expect.set_options(timeout=SHOWN_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed("chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def front_end(data_dir: Path, redis_url: str, redis: object) -> Iterator[Live]:
    """A front end without a worker: whatever waits goes on waiting, and a test writes what a worker would."""
    settings = ApiSettings(data_dir=data_dir, redis_url=redis_url, max_upload_bytes=MAX_UPLOAD_BYTES)
    with live(create_app(settings)) as serving:
        yield serving


@contextmanager
def watched(context: BrowserContext) -> Iterator[Page]:
    """A tab. Whatever its console says of an error, such as a file that its policy keeps out, fails in the end."""
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []
