"""Many uploads at a time, and uploads that end in the middle: the service stays small, responsive and clean.

`pytest --full` runs them at full size.
"""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.core.problems import PROBLEMS
from tests.conftest import audio_files
from tests.e2e.service import Service
from tests.e2e.wire import NO_WAV, Upload, cut_upload, descriptors, form, growing

MB = 1000 * 1000
PARALLEL = 20
MAX_GROWTH_BYTES = 100 * MB
SETTLE_S = 60.0


def files(service: Service) -> set[str]:
    return {path.name for path in audio_files(service.data_dir / "audio")}


def n_jobs(service: Service) -> int:
    """How many jobs are listed, counted page by page."""
    n, query = 0, {"limit": "100"}
    while True:
        page = service.client.get("/jobs", params=query).raise_for_status().json()
        n += len(page["items"])
        if page["next_cursor"] is None:
            return n
        query["cursor"] = page["next_cursor"]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def test_parallel_uploads_neither_fill_the_memory_nor_hold_up_the_rest(service: Service, full: bool) -> None:
    n_bytes = 100 * MB if full else 15 * MB
    with growing(service.api_pid()) as growth, ThreadPoolExecutor(PARALLEL) as pool:
        uploads = [Upload(service.url, n_bytes) for _ in range(PARALLEL)]
        list(pool.map(Upload.send_half, uploads))
        service.client.get("/livez").raise_for_status()
        assert service.submit(NO_WAV).status_code == 202
        answers = list(pool.map(Upload.finish, uploads))
    for answer in answers:
        assert answer.status == 202 or answer.body["code"] in PROBLEMS
    assert any(answer.status == 202 for answer in answers)
    assert growth.peak_bytes < MAX_GROWTH_BYTES


def test_uploads_cut_at_any_byte_leave_no_job_no_file_and_no_descriptor(service: Service) -> None:
    chance = random.Random(20261122)
    body = form(NO_WAV + bytes(50_000))
    pid = service.api_pid()

    def cut(_number: int) -> None:
        cut_upload(service.url, body, chance.randrange(len(body)), reset=chance.random() < 0.5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cut, range(50)))
        time.sleep(1)
        n_descriptors, old_files, jobs = descriptors(pid), files(service), n_jobs(service)
        list(pool.map(cut, range(1_000)))
    eventually(lambda: not files(service) - old_files)
    eventually(lambda: descriptors(pid) <= n_descriptors)
    assert n_jobs(service) == jobs
