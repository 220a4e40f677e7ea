"""The page for people in Chromium, on a real service: from choosing a file to its scores, and whatever may go wrong."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser.page import ANSWER_MS, Visit, melody, payload, payloads, visit
from tests.e2e.service import Service
from tests.model import tracks

#: Where a proxy may serve the page.
PREFIX = "/music/apex"
DEVICES = {"desktop": (1280, 900, "light"), "dark phone": (390, 844, "dark")}
HOSTILE = "<img src=x onerror=alert(1)>.wav"


@pytest.fixture
def tab(context: BrowserContext, service: Service) -> Iterator[Visit]:
    with visit(context, service.url) as tab:
        yield tab


@pytest.fixture(scope="module")
def pair(service: Service) -> list[tuple[str, bytes]]:
    """Two tracks that the service has scored before, so that they are answered at once."""
    named = [("low.wav", melody(1)), ("high.wav", melody(30))]
    for _, body in named:
        service.score(body)
    return named


@contextmanager
def paused_worker(service: Service) -> Iterator[None]:
    """Nothing is scored in the block."""
    [pid] = service.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_track_is_scored_with_the_keyboard_alone(tab: Visit, service: Service) -> None:
    body = melody(2, duration_s=40)
    tab.open()
    expect(tab.page.locator("#stand-in")).to_be_visible()
    with tab.page.expect_file_chooser() as chooser:
        tab.page.keyboard.press("Tab")
        expect(tab.page.get_by_text("Skip to the content")).to_be_focused()
        tab.page.keyboard.press("Enter")
        tab.page.keyboard.press("Tab")
        expect(tab.page.locator("#files")).to_be_focused()
        tab.page.keyboard.press("Enter")
    chooser.value.set_files(payload("song.wav", body))
    shown = tab.shown_scores("song.wav")
    assert len(shown) == 7
    scores = service.score(body)["result"]["scores"]
    assert shown == {name: pytest.approx(value, abs=0.051) for name, value in scores.items()}
    expect(tab.page.locator("#live")).to_contain_text("song.wav: scored")
    expect(tab.card("song.wav")).to_contain_text("these numbers mean nothing")
    slider = tab.card("song.wav").get_by_role("slider")
    slider.focus()
    tab.page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "0:05 of 0:40")
    tab.page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "0:40 of 0:40")
    steps = tab.card("song.wav").get_by_role("list", name="Musicality by segment").get_by_role("button")
    expect(steps).to_have_count(2)
    steps.last.focus()
    tab.page.keyboard.press("Enter")
    expect(slider).to_have_attribute("aria-valuetext", "0:30 of 0:40")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_track_is_dropped_or_pasted_anywhere(tab: Visit, pair: list[tuple[str, bytes]], event: str) -> None:
    [(name, body), _] = pair
    tab.open()
    tab.page.evaluate(
        """([event, name, bytes]) => {
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(bytes)], name));
            const init = { bubbles: true, cancelable: true, dataTransfer: held, clipboardData: held };
            const made = event === "drop" ? new DragEvent(event, init) : new ClipboardEvent(event, init);
            document.querySelector("footer").dispatchEvent(made);
        }""",
        [event, name, list(body)],
    )
    tab.scored(name)


def test_file_names_leave_the_machine_only_when_the_box_is_ticked(tab: Visit, service: Service) -> None:
    sent: list[bytes] = []
    tab.page.on("request", lambda asked: sent.append(asked.post_data_buffer or b"") if asked.method == "POST" else None)
    tab.open()
    tab.drop(payload("secret one.wav", melody(3)))
    tab.scored("secret one.wav")
    assert service.client.get("/jobs", params={"limit": 1}).json()["items"][0]["external_id"] is None
    assert not any(b"secret" in body for body in sent)
    tab.page.get_by_text("Send the file names along").click()
    tab.drop(payload("open two.wav", melody(4)))
    tab.scored("open two.wav")
    assert service.client.get("/jobs", params={"limit": 1}).json()["items"][0]["external_id"] == "open two.wav"


def test_a_file_that_is_refused_says_why(tab: Visit) -> None:
    tab.open()
    tab.drop(payload("notes.txt", b"not a song" * 100))
    card = tab.card("notes.txt")
    expect(card.locator(".problem-title")).to_have_text("This is no audio that can be read")
    link = card.get_by_role("link", name="What this means").get_attribute("href")
    assert tab.page.request.get(f"{tab.url}/{link}").ok
    assert card.get_by_role("button").all_inner_texts() == ["Remove"]  # the same file would be refused again


def test_a_track_that_fails_says_why(tab: Visit) -> None:
    tab.open()
    tab.drop(payload("short.wav", melody(5, duration_s=0.2)))
    card = tab.card("short.wav")
    expect(card).to_have_attribute("data-phase", "failed", timeout=ANSWER_MS)
    expect(card.locator(".problem-title")).to_have_text("The track is too short")


def test_tracks_wait_for_their_turn_and_are_canceled(tab: Visit, service: Service) -> None:
    tab.open()
    with paused_worker(service):
        tab.drop(payload("first.wav", melody(7)))
        expect(tab.card("first.wav").locator(".stage")).not_to_have_text("Waiting to be sent")
        tab.drop(payload("second.wav", melody(8)), payload("third.wav", melody(9)))
        expect(tab.card("third.wav").locator(".stage")).to_contain_text("in the queue")
        expect(tab.card("second.wav").locator(".stage")).to_contain_text("in the queue")
        tab.card("third.wav").get_by_role("button", name="Cancel").focus()
        tab.page.keyboard.press("Enter")
        expect(tab.card("third.wav")).to_have_attribute("data-phase", "canceled")
        expect(tab.card("third.wav").get_by_role("heading")).to_be_focused()
    tab.scored("first.wav")
    tab.scored("second.wav")


def test_a_service_that_restarts_underneath_loses_nothing(tab: Visit, service: Service) -> None:
    tab.open()
    with paused_worker(service):
        tab.drop(payload("kept.wav", melody(10)))
        expect(tab.card("kept.wav")).to_have_attribute("data-phase", re.compile("queued|running"), timeout=ANSWER_MS)
        os.kill(service.api_pid(), signal.SIGKILL)
        tab.drop(payload("during.wav", melody(11)))
    tab.scored("kept.wav")
    tab.scored("during.wav")
    jobs = service.client.get("/jobs", params={"limit": 2}).json()["items"]
    assert len({job["audio"]["sha256"] for job in jobs}) == 2


def test_events_that_are_cut_go_on_where_they_broke(tab: Visit, service: Service) -> None:
    asked: list[str | None] = []

    def cut(route: Route) -> None:
        """The first stream breaks after its first event."""
        asked.append(route.request.headers.get("last-event-id"))
        if len(asked) > 1:
            route.continue_()
            return
        job = service.job(route.request.url.split("/")[-2])
        route.fulfill(
            content_type="text/event-stream", body=f"event: job.snapshot\nid: 0-0\ndata: {json.dumps(job)}\n\n"
        )

    tab.page.route("**/events", cut)
    tab.open()
    with paused_worker(service):
        tab.drop(payload("cut.wav", melody(12)))
        expect(tab.card("cut.wav")).to_have_attribute("data-phase", re.compile("queued|running"), timeout=ANSWER_MS)
        tab.page.wait_for_timeout(10)
        while len(asked) < 2:
            tab.page.wait_for_timeout(50)
    tab.scored("cut.wav")
    assert asked[:2] == [None, "0-0"]


def test_twenty_files_at_once_all_get_their_scores(tab: Visit) -> None:
    tab.open()
    tab.drop(*payloads([(f"{n}.wav", melody(100 + n, duration_s=1.0)) for n in range(20)]))
    expect(tab.page.locator(".card[data-phase=succeeded]")).to_have_count(20, timeout=ANSWER_MS)


def test_a_comparison_has_a_winner_only_outside_of_the_band(tab: Visit, pair: list[tuple[str, bytes]]) -> None:
    tab.open()
    [(low, body), _] = pair
    tab.drop(*payloads([*pair, ("same.wav", body)]))
    for name in (low, "same.wav"):
        tab.scored(name).get_by_label("Compare").check()
    tab.page.get_by_role("link", name="Compare").click()
    expect(tab.page.locator("#ranking")).to_contain_text("Say what counts")
    tab.page.get_by_role("button", name="All alike").click()
    expect(tab.page.locator(".verdict")).to_contain_text("Nobody leads")
    assert [rank.inner_text() for rank in tab.page.locator(".rank").all()] == ["1", "1"]
    tab.page.get_by_role("link", name="Score", exact=True).click()
    tab.card("high.wav").get_by_label("Compare").check()
    tab.card("same.wav").get_by_label("Compare").uncheck()
    tab.page.get_by_role("link", name="Compare").click()
    expect(tab.page.locator(".verdict")).to_contain_text(re.compile(r"(low|high)\.wav leads"))
    assert [rank.inner_text() for rank in tab.page.locator(".rank").all()] == ["1", "2"]
    tab.page.locator("#ranking summary").click()
    expect(tab.page.locator("#ranking pre")).to_contain_text("/compare")
    assert tab.axe() == []


def test_compared_tracks_are_heard_one_at_a_time_and_taken_out(tab: Visit) -> None:
    tab.open()
    tab.drop(*payloads([(name, melody(2, duration_s=40)) for name in ("one.wav", "two.wav")]))
    expect(tab.page.locator("#tally")).to_contain_text("2 of 2 scored", timeout=ANSWER_MS)
    tab.page.get_by_role("button", name="Compare all").click()
    tab.page.get_by_role("button", name="Listen to one.wav").click()
    expect(tab.page.get_by_role("button", name="Pause one.wav")).to_be_visible()
    tab.page.get_by_role("button", name="Listen to two.wav").click()
    expect(tab.page.get_by_role("button", name="Listen to one.wav")).to_be_visible()
    assert tab.axe() == []
    tab.page.get_by_role("button", name="Take two.wav out").click()
    expect(tab.page.locator("#compare-empty")).to_be_visible()
    tab.page.get_by_role("link", name="Score", exact=True).click()
    expect(tab.card("one.wav").get_by_label("Compare")).to_be_checked()
    expect(tab.card("two.wav").get_by_label("Compare")).not_to_be_checked()


def test_history_is_read_page_by_page_filtered_and_exported(
    tab: Visit, service: Service, pair: list[tuple[str, bytes]]
) -> None:
    for n in range(22):
        service.client.post("/score", files={"file": pair[n % 2][1]}, data={"external_id": f"=row-{n}"})
    tab.open("#history")
    rows = tab.page.locator("#jobs tbody tr")
    expect(rows).to_have_count(20)
    tab.page.get_by_role("button", name="Show more").click()
    expect(rows).not_to_have_count(20)
    tab.page.get_by_role("textbox", name="Name").fill("=row-3")
    tab.page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Export CSV").click()
    [head, line] = download.value.path().read_bytes().decode().split("\r\n")
    assert "musicality" in head
    assert "'=row-3" in line  # a spreadsheet would run it
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Export JSON").click()
    [job] = json.loads(download.value.path().read_text())
    assert job["external_id"] == "=row-3"
    rows.first.get_by_role("button").click()
    expect(tab.page.locator("#opened .score")).to_have_count(7)
    assert tab.axe() == []
    tab.page.get_by_text("Skip to the content").press("Enter")
    tab.page.get_by_text("Do this in code").last.click()
    expect(tab.page.locator("#history-code pre")).to_contain_text("external_id=%3Drow-3")
    tab.page.get_by_role("textbox", name="Name").fill("")
    tab.page.keyboard.press("Enter")
    for name in ("=row-21", "=row-20"):
        rows.get_by_label(f"Compare {name}").check()
    tab.page.get_by_role("link", name="Compare").click()
    expect(tab.page.locator(".legend li")).to_have_count(2)


def test_a_batch_is_found_with_its_tracks(tab: Visit, service: Service, pair: list[tuple[str, bytes]]) -> None:
    files = [("files", (name, body)) for name, body in pair]
    service.client.post("/batches", files=files, data={"batch_external_id": "an album"}).raise_for_status()
    tab.open("#history")
    expect(tab.page.locator("#batches li").first).to_contain_text("2 tracks")
    tab.page.get_by_role("button", name="an album").click()
    expect(tab.page.locator("#jobs tbody tr")).to_have_count(2)


def test_whatever_a_track_is_called_is_text(tab: Visit, service: Service) -> None:
    tab.open()
    tab.page.get_by_text("Send the file names along").click()
    tab.drop(payload(HOSTILE, melody(13)))
    card = tab.scored(HOSTILE)
    card.get_by_text("Do this in code").click()
    for language in ("Python", "TypeScript", "curl"):
        card.locator(".choices").get_by_text(language).click()
        expect(card.locator("pre")).to_contain_text("onerror=alert(1)")
    tab.page.get_by_role("link", name="History").click()
    expect(tab.page.locator("#jobs tbody tr").first).to_contain_text(HOSTILE)
    assert tab.page.locator("main img").count() == 0


def test_whatever_a_problem_or_a_job_says_is_text(tab: Visit, service: Service) -> None:
    def hostile(route: Route) -> None:
        job = route.fetch().json()
        item = job["items"][0] | {"external_id": HOSTILE, "metadata": {HOSTILE: HOSTILE}, "status": HOSTILE}
        route.fulfill(json=job | {"items": [item]})

    service.score(melody(1))
    tab.page.route(
        "**/score",
        lambda route: route.fulfill(
            status=422, json={"title": HOSTILE, "detail": HOSTILE, "code": HOSTILE, "retryable": False}
        ),
    )
    tab.page.route("**/jobs?*", hostile)
    tab.open()
    tab.drop(payload("x.wav", melody(14)))
    expect(tab.card("x.wav").locator(".problem")).to_contain_text(HOSTILE)
    tab.open("#history")
    expect(tab.page.locator("#jobs")).to_contain_text(HOSTILE)
    assert tab.page.locator("main img").count() == 0


def test_the_page_works_under_a_path_of_its_host(context: BrowserContext, service: Service) -> None:
    asked: list[str] = []
    context.route(f"**{PREFIX}/**", lambda route: route.continue_(url=route.request.url.replace(PREFIX, "")))
    with visit(context, service.url + PREFIX) as tab:
        tab.page.on("request", lambda request: asked.append(httpx.URL(request.url).path))
        tab.open()
        tab.drop(payload("prefixed.wav", melody(15)))
        tab.scored("prefixed.wav")
        tab.open("ops")
        expect(tab.page.locator(".tile")).to_have_count(6)
    assert [path for path in asked if not path.startswith(PREFIX) and not path.startswith("http")] == []


def test_a_quarter_of_an_hour_is_drawn_with_pauses(tab: Visit, tmp_path: Path) -> None:
    """Its seven million samples are looked at in parts, between which the page does what else it has to."""
    tab.page.add_init_script(
        "window.pauses = 0; const wait = window.setTimeout; window.setTimeout = (work, delay) => "
        "{ if (delay === undefined) window.pauses += 1; return wait(work, delay); };"
    )
    tab.page.route("**/score", lambda route: route.abort())
    tab.open()
    (tmp_path / "long.wav").write_bytes(melody(1, duration_s=890))
    tab.drop(tmp_path / "long.wav")
    expect(tab.card("long.wav").locator(".wave.ready")).to_be_visible(timeout=ANSWER_MS)
    assert tab.page.evaluate("window.pauses") >= 890 * 8000 // 500_000


def test_a_format_that_the_browser_cannot_play_has_scores_all_the_same(tab: Visit) -> None:
    tab.open()
    tab.drop(payload("song.au", tracks.track_file("au-16")))
    card = tab.scored("song.au")
    expect(card).to_contain_text("This browser cannot play this file")
    assert card.locator("audio").count() == 0


@pytest.mark.parametrize("device", DEVICES)
def test_nothing_serious_is_found_on_any_screen(
    browser: Browser, service: Service, pair: list[tuple[str, bytes]], tmp_path: Path, device: str
) -> None:
    """Pictures of every screen are kept beside the test's other files."""
    width, height, scheme = DEVICES[device]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    with visit(context, service.url) as tab:
        tab.open()
        expect(tab.page.locator("#caveats li")).not_to_have_count(0)
        assert tab.axe() == []
        look(tab.page, tmp_path / "empty.png")
        tab.drop(*payloads([*pair, ("notes.txt", b"no song")]))
        expect(tab.card("notes.txt").locator(".problem")).to_be_visible()
        for name, _ in pair:
            tab.scored(name)
        tab.card("low.wav").get_by_text("Do this in code").click()
        assert tab.axe() == []
        look(tab.page, tmp_path / "scores.png")
        tab.open("ops")
        expect(tab.page.locator("#checks li")).not_to_have_count(0)
        assert tab.axe() == []
        look(tab.page, tmp_path / "ops.png")
    context.close()


def look(page: Page, path: Path) -> None:
    """Keep a picture; nothing may be wider than the screen."""
    page.screenshot(path=path, full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
