"""The page for people as a person meets it: what the tests do with it, and what they see."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import BrowserContext, FilePayload, Locator, Page, Request, expect

from tests.clients.npm import MODULES
from tests.model import tracks

#: A job needs a free worker on a machine that may be busy.
ANSWER_MS = 60_000
AXE = MODULES / "axe-core/axe.min.js"
#: What the browser's console says of an answer that is no success, which the page shows itself.
ANSWERED = re.compile(r"Failed to load resource: the server responded with a status of|net::ERR_")


@dataclass
class Visit:
    """A tab with the page, and what it must never do: call elsewhere, break its policy, fail."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self.note(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self.note_request)

    def note(self, text: str) -> None:
        if not ANSWERED.search(text):
            self.wrong.append(text)

    def note_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "blob" and parts.netloc != urlsplit(self.url).netloc:
            self.wrong.append(f"asked {request.url}")

    def open(self, path: str = "") -> None:
        self.page.goto(f"{self.url}/{path}")
        expect(self.page.locator("html[data-ready]")).to_be_attached()

    def drop(self, *files: Path | FilePayload) -> None:
        """Choose files, as by dropping them."""
        self.page.locator("#files").set_input_files(list(files))  # type: ignore[arg-type]  # of one kind

    def card(self, name: str) -> Locator:
        return self.page.locator(".card").filter(has=self.page.get_by_role("heading", name=name, exact=True))

    def scored(self, name: str) -> Locator:
        """The card of a track once it has scores."""
        card = self.card(name)
        expect(card).to_have_attribute("data-phase", "succeeded", timeout=ANSWER_MS)
        return card

    def shown_scores(self, name: str) -> dict[str, float]:
        rows = self.scored(name).locator(".score").all()
        return {row.get_attribute("data-score") or "": value_of(row) for row in rows}

    def axe(self) -> list[str]:
        """What axe finds that is serious or critical. Run beside the page, whose policy lets no other script in."""
        found = self.page.evaluate(AXE.read_text() + "; axe.run()")
        return [
            f"{violation['id']}: {node['html']}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]


def value_of(row: Locator) -> float:
    return float(row.locator(".bar").get_attribute("aria-valuenow") or "nan")


@contextmanager
def visit(context: BrowserContext, url: str) -> Iterator[Visit]:
    """A tab; in the end nothing must have gone wrong in it."""
    tab = Visit(context.new_page(), url.rstrip("/"))
    yield tab
    assert tab.wrong == []


def melody(seed: int, *, duration_s: float = 2.0, rate_hz: int = 8_000) -> bytes:
    """A track of its own for each seed, as WAV."""
    times = np.arange(int(duration_s * rate_hz)) / rate_hz
    rising = np.sin(2 * np.pi * (200 + 20 * seed) * times * (1 + times / 50))
    return tracks.wav((rising * 0.5).astype(np.float32), rate_hz)


def payload(name: str, body: bytes) -> FilePayload:
    return {"name": name, "mimeType": "audio/wav", "buffer": body}


def payloads(named: Sequence[tuple[str, bytes]]) -> list[FilePayload]:
    return [payload(name, body) for name, body in named]
