"""Swagger UI in a browser: from choosing a file to reading its scores, with what the form is filled with at first."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.core.json_types import Json
from tests.browser.conftest import watched
from tests.e2e.service import Service

ANSWER_MS = 60_000


@pytest.fixture(scope="module")
def docs(browser: Browser, service: Service) -> Iterator[Page]:
    """The page, loaded once: that takes longer than all that the tests do in it."""
    with browser.new_context() as context, watched(context) as page:
        page.goto(f"{service.url}/docs")
        yield page


def try_out(docs: Page, operation: str) -> Locator:
    """An operation's form, open and without the answer to a test before."""
    block = docs.locator(f"#operations-scoring-{operation}")
    if block.locator(".opblock-body").count() == 0:
        block.locator(".opblock-summary-control").click()
        block.get_by_role("button", name="Try it out").click()
    elif (clear := block.get_by_role("button", name="Clear", exact=True)).count():
        clear.click()
        expect(block.locator(".live-responses-table")).to_have_count(0)
    return block


def execute(block: Locator) -> tuple[int, Json]:
    """Send the form; the answer's status and body."""
    block.get_by_role("button", name="Execute", exact=True).click()
    answer = block.locator(".live-responses-table tr.response").first
    expect(answer).to_be_visible(timeout=ANSWER_MS)
    body: Json = json.loads(answer.locator(".highlight-code code").first.inner_text())
    return int(answer.locator(".response-col_status").inner_text().split()[0]), body


def test_a_track_is_chosen_and_its_scores_are_read(docs: Page, track: Path, scores: Json) -> None:
    upload = try_out(docs, "score_track")
    upload.locator('input[type="file"]').set_input_files(track)
    status, job = execute(upload)
    assert status in (200, 202), job
    assert (job["external_id"], job["batch_id"], job["metadata"]) == (None, None, {})

    read = try_out(docs, "get_job")
    read.locator('tr[data-param-name="id"] input').fill(job["id"])
    status, job = execute(read)
    assert (status, job["status"]) == (200, "succeeded")
    assert job["result"]["scores"] == scores


def test_a_bare_file_is_sent_too(docs: Page, track: Path) -> None:
    upload = try_out(docs, "score_raw")
    expect(upload.locator('tr[data-param-name="metadata"] input')).to_have_attribute("type", "text")
    upload.locator('.opblock-section-request-body input[type="file"]').set_input_files(track)
    status, job = execute(upload)
    assert status in (200, 202), job


def test_a_cleared_field_counts_as_absent(docs: Page, track: Path) -> None:
    upload = try_out(docs, "score_track")
    upload.locator('input[type="file"]').set_input_files(track)
    for field in upload.locator(".opblock-section-request-body").locator("input[type=text], textarea").all():
        field.fill("x")
        field.fill("")
    for box in upload.get_by_text(re.compile("Send empty value")).all():
        box.click()
    status, job = execute(upload)
    assert status in (200, 202), job
    assert (job["external_id"], job["metadata"]) == (None, {})


def test_jobs_are_listed_with_an_empty_form(docs: Page) -> None:
    status, jobs = execute(try_out(docs, "list_jobs"))
    assert status == 200
    assert jobs["items"]


def test_no_call_is_put_into_a_trace_of_an_example(docs: Page) -> None:
    listing = try_out(docs, "list_jobs")
    with docs.expect_request("**/jobs?*") as request:
        execute(listing)
    assert "traceparent" not in request.value.headers
