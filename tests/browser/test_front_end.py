"""The page on a front end without a worker: what waits, who may read, and results that a test has written."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import BrowserContext, Route, expect
from redis import Redis

from app.core.callers import DEFAULT_SCOPES
from app.core.jobs.state_machine import JobStateMachine
from model.domain import SCORE_RANGES
from tests.app.api.live import Live
from tests.app.records import MODEL, WORKER_KEY, key_of, live_worker, queued, running
from tests.browser.conftest import MAX_UPLOAD_BYTES
from tests.browser.page import Visit, melody, payload, payloads, visit

SCORES = {"score_streams": 61.4213, "score_likes": 48.0687, "coherence": 3.8142, "musicality": 3.6603}
SCORES |= {"memorability": 2.5, "clarity": 4.2049, "naturalness": 1.0}
REFERENCE = {"name": "A catalogue", "date": "2026-11-27", "n_tracks": 12000}
RESULT = {
    "scores": SCORES,
    "ranges": {name: list(bounds) for name, bounds in SCORE_RANGES.items()},
    "percentiles": {"reference": REFERENCE, **dict.fromkeys(SCORES, 73.4)},
    "segment_scores": {"clarity": [4.5, 4.0, 4.1]},
    "spread": {"method": "segment_bootstrap", "level": 0.9, "clarity": [4.0, 4.5]},
}


@pytest.fixture
def tab(context: BrowserContext, front_end: Live) -> Iterator[Visit]:
    with visit(context, front_end.url) as tab:
        yield tab


@pytest.fixture
def trained_job(front_end: Live, machine: JobStateMachine) -> str:
    """The id of a job that trained weights have scored."""
    front_end.services.worker_info.publish_model({**MODEL, "scores": RESULT["ranges"], "reference": REFERENCE})
    run = running(machine, external_id="hit.wav", with_segments=True)
    machine.succeed(run, result=RESULT, model=MODEL | {"training_unit": "song"}, audio={"duration_s": 63.4})
    return run.id


def test_scores_of_trained_weights_have_ranges_errors_and_percentiles(tab: Visit, trained_job: str) -> None:
    tab.open(f"#job={trained_job}")
    card = tab.scored("hit.wav")
    assert tab.shown_scores("hit.wav") == pytest.approx(SCORES, abs=0.051)
    for name, (low, high) in SCORE_RANGES.items():
        row = card.locator(f"[data-score={name}]")
        expect(row.get_by_role("meter")).to_have_attribute("aria-valuemin", f"{low:g}")
        expect(row.get_by_role("meter")).to_have_attribute("aria-valuemax", f"{high:g}")
        expect(row).to_contain_text("Higher than 73 % of the 12,000 tracks of “A catalogue”")
        expect(row.get_by_text("about 20 points")).to_have_count(1 if high == 100 else 0)
    clarity = card.get_by_role("meter", name="Clarity")
    expect(clarity).to_have_attribute("aria-valuetext", "4.20, in a range of 1 to 5; 4.00 to 4.50 with other parts")
    assert card.locator(".spread").count() == 1
    expect(card.get_by_role("list", name="Clarity by segment")).to_have_text("0:00 4.500:30 4.001:00 4.10")
    expect(tab.page.locator("#stand-in")).to_be_hidden()
    expect(tab.page.get_by_text("untrained").filter(visible=True)).to_have_count(0)
    expect(card.locator(".provenance")).to_contain_text("apex-1.0.0")
    assert tab.axe() == []


def test_a_printed_result_is_one_track_with_its_bars_alone(tab: Visit, trained_job: str) -> None:
    tab.page.add_init_script("window.print = () => { window.printed = true; };")
    tab.open(f"#job={trained_job}")
    tab.scored("hit.wav").get_by_role("button", name="Print").click()
    assert tab.page.evaluate("window.printed")
    tab.page.emulate_media(media="print", color_scheme="dark")
    for hidden in ("nav", "#filters", "#jobs", ".buttons", ".in-code summary"):
        expect(tab.page.locator(hidden).first).to_be_hidden()
    expect(tab.card("hit.wav").locator(".bar").last).to_be_visible()
    expect(tab.page.locator("#licence")).to_be_visible()
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert style(tab, ".bar", "print-color-adjust", "::before") == "exact"


def test_forced_colours_leave_the_bars_and_show_what_is_chosen(tab: Visit, trained_job: str) -> None:
    tab.open(f"#job={trained_job}")
    tab.scored("hit.wav")
    colour = style(tab, ".bar", "background-color", "::before")
    tab.page.emulate_media(forced_colors="active")
    assert style(tab, ".bar", "background-color", "::before") == colour
    assert style(tab, "nav a[aria-current]", "outline-style") == "solid"
    assert tab.axe() == []


def test_nothing_moves_for_those_who_want_less_motion(tab: Visit) -> None:
    tab.page.emulate_media(reduced_motion="reduce")
    tab.open()
    tab.drop(payload("waits.wav", melody(1)))
    expect(tab.card("waits.wav").get_by_role("progressbar")).to_have_attribute("aria-valuetext", "Next in the queue")
    assert tab.page.evaluate("document.getAnimations().length") == 0
    assert style(tab, ".progress", "width", "::before") == style(tab, ".progress", "width")  # no share of anything


def style(tab: Visit, selector: str, name: str, part: str = "") -> str:
    """A computed property of the first such element, or of a part of it."""
    shown: str = tab.page.locator(selector).first.evaluate(
        "(element, [name, part]) => getComputedStyle(element, part).getPropertyValue(name)", [name, part]
    )
    return shown


@pytest.mark.parametrize("is_known", [True, False], ids=["the page knows the limit", "the service says it"])
def test_a_file_that_is_too_large_says_so(tab: Visit, is_known: bool) -> None:
    def unlimited(route: Route) -> None:
        card = route.fetch().json()
        route.fulfill(json=card | {"inputs": card["inputs"] | {"max_bytes": 2**40}})

    if not is_known:
        tab.page.route("**/model", unlimited)
    tab.open()
    expect(tab.page.locator("#limits")).not_to_be_empty()
    tab.drop(payload("large.wav", melody(6) + bytes(MAX_UPLOAD_BYTES)))
    expect(tab.card("large.wav").locator(".problem-title")).to_have_text("The file is larger than this server accepts")


def test_the_rest_of_a_batch_is_canceled_after_a_second_press(tab: Visit, front_end: Live) -> None:
    files = [("files", (f"{n}.wav", melody(n, duration_s=1.0))) for n in range(3)]
    with front_end.client() as client:
        client.post("/batches", files=files, data={"batch_external_id": "album"}).raise_for_status()
    tab.open("#history")
    batch = tab.page.locator("#batches li").first
    expect(batch).to_contain_text("3 queued")
    batch.get_by_role("button", name="Cancel album").click()
    expect(batch).to_contain_text("3 queued")
    batch.get_by_role("button", name="Cancel 3 tracks?").press("Enter")
    expect(batch).to_contain_text("3 canceled")
    expect(batch.get_by_role("button", name="album")).to_be_focused()
    expect(tab.page.locator("#jobs .status").first).to_have_text("canceled")
    assert batch.get_by_role("button").count() == 1


def test_history_follows_what_has_not_ended(tab: Visit, machine: JobStateMachine) -> None:
    jobs = [queued(machine, external_id=f"{n}.wav") for n in range(2)]
    tab.open("#history")
    row = tab.page.get_by_role("row").filter(has_text="0.wav")
    expect(row.locator(".status")).to_have_text("queued")
    row.get_by_role("button").focus()
    machine.cancel(jobs[0])
    expect(row.locator(".status")).to_have_text("canceled")
    expect(row.get_by_role("button")).to_be_focused()


def test_all_that_waits_is_canceled_with_one_button(tab: Visit) -> None:
    tab.open()
    tab.drop(*payloads([(f"{n}.wav", melody(n, duration_s=1.0)) for n in range(3)]))
    expect(tab.page.locator(".card[data-phase=queued]")).to_have_count(3)
    expect(tab.page.locator("#tally")).to_contain_text("0 of 3 scored")
    tab.page.get_by_role("button", name="Cancel the rest").click()
    expect(tab.page.locator("#tally")).to_contain_text("3 canceled")


def test_a_service_that_is_away_at_first_is_asked_again(tab: Visit, trained_job: str) -> None:
    away = {"title": "Redis cannot be reached", "code": "redis_unavailable"}
    tab.page.route("**/model", lambda route: route.fulfill(status=503, json=away), times=1)
    tab.open()
    expect(tab.page.locator("#trouble")).to_contain_text("Redis cannot be reached")
    expect(tab.page.locator("#model-name")).to_contain_text("apex-1.0.0")
    expect(tab.page.locator("#trouble")).to_be_empty()


def test_a_key_is_asked_for_after_a_401_only_and_stays_in_the_tab(tab: Visit, redis: Redis) -> None:
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    key = bearer(redis, *DEFAULT_SCOPES, livemode=False)
    tab.open()
    dialog = tab.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert tab.axe() == []
    tab.page.get_by_role("button", name="Not now").click()
    expect(tab.page.locator("#trouble")).to_contain_text("The API key is missing")
    tab.drop(payload("keyed.wav", melody(16)))
    expect(dialog).to_be_visible()
    tab.page.get_by_role("button", name="Not now").click()
    tab.card("keyed.wav").get_by_role("button", name="Give a key").click()
    tab.page.get_by_label("API key").fill("msk_live_wrong")
    tab.page.keyboard.press("Enter")
    expect(dialog).to_contain_text("not accepted")
    give(tab, key)
    expect(tab.page.locator("#caveats li")).not_to_have_count(0)
    expect(tab.scored("keyed.wav")).to_contain_text("made with a test key")
    assert not any(key in url for url in asked)
    assert tab.page.evaluate("Object.keys(localStorage).length") == 0
    tab.page.get_by_role("button", name="Forget the key").click()
    expect(dialog).to_be_visible()


def test_a_key_that_may_not_read_something_can_be_changed_for_one_that_may(tab: Visit, redis: Redis) -> None:
    usual = bearer(redis, *DEFAULT_SCOPES)
    writer = bearer(redis, "score:write")
    tab.open("#history")
    give(tab, writer)
    expect(tab.page.locator("#jobs")).to_contain_text("jobs:read")
    tab.page.get_by_role("button", name="Use another key").click()
    give(tab, usual)
    expect(tab.page.locator("#job-count")).to_have_text("No track matches.")
    tab.open("ops")
    expect(tab.page.locator("#trouble")).to_contain_text("ops:read")
    assert tab.page.locator(".tile").count() == 0
    tab.page.get_by_role("button", name="Use another key").click()
    give(tab, bearer(redis, "ops:read"))
    expect(tab.page.locator(".tile")).to_have_count(6)
    expect(tab.page.locator("#trouble")).to_be_empty()


def test_operators_see_who_works_how_much_room_there_is_and_what_failed(
    tab: Visit, redis: Redis, machine: JobStateMachine
) -> None:
    live_worker(redis, beat=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), state="suspended")
    redis.hset(WORKER_KEY, mapping={"hostname": "gpu-1", "model_version": "apex-1.0.0", "device": "cuda:0"})
    for tenant in ("one", "other"):
        machine.fail(running(machine, tenant=tenant), error={"code": "audio_too_short"})
    tab.open("ops")
    worker = tab.page.get_by_role("region", name="Workers").get_by_role("row").last
    for said in ("gpu-1", "apex-1.0.0", "cuda:0", "paused"):
        expect(worker).to_contain_text(said)
    expect(tab.page.locator(".tile").filter(has_text="Room for audio")).to_contain_text("needed")
    expect(tab.page.locator("#failures").get_by_role("row")).to_have_text("audio_too_short2")
    jobs = tab.page.locator(".plot").filter(has=tab.page.locator("#throughput"))
    jobs.get_by_text("The numbers").click()
    expect(jobs.get_by_role("row").first).to_contain_text("failed")
    tab.page.get_by_label("The last").select_option("48")
    expect(tab.page.locator("#throughput rect.mark")).to_have_count(48 * 4)
    expect(jobs.get_by_role("row").first).to_be_visible()  # what was opened stays open
    assert tab.axe() == []


def bearer(redis: Redis, *scopes: str, livemode: bool = True) -> str:
    return key_of(redis, "acme", *scopes, livemode=livemode)["Authorization"].removeprefix("Bearer ")


def give(tab: Visit, key: str) -> None:
    tab.page.get_by_label("API key").fill(key)
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("dialog")).to_be_hidden()
