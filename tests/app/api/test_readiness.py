"""Readiness is measured once for all who ask at about the same time, and does not wait for ever."""

import asyncio
import threading

import pytest

from app.api import readiness
from app.api.dependencies import Services
from app.core.storage.folder import FolderStorage

pytestmark = pytest.mark.anyio


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An item for each file that a measurement writes."""
    files: list[str] = []
    monkeypatch.setattr(FolderStorage, "check_writable", lambda _storage: files.append("one"))
    return files


async def test_a_thousand_who_ask_at_once_are_answered_by_one_measurement(
    services: Services, written: list[str]
) -> None:
    answers = await asyncio.gather(*(services.readiness.checks() for _ in range(1000)))
    assert len(written) == 1
    assert all(answer is answers[0] for answer in answers)
    assert set(answers[0]) == set(readiness.CHECKS)


async def test_those_who_ask_one_after_the_other_are_answered_by_one_measurement_a_second(
    services: Services, written: list[str]
) -> None:
    services.readiness.latest.ttl_s = 3600.0
    for _ in range(100):
        await services.readiness.checks()
    assert len(written) == 1
    services.readiness.latest.ttl_s = -1.0
    await services.readiness.checks()
    assert len(written) == 2


async def test_a_disk_that_hangs_is_not_ready_and_holds_one_thread(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, hanging = threading.Event(), list[str]()

    def hang(_storage: FolderStorage) -> None:
        hanging.append("one")
        let_go.wait()

    monkeypatch.setattr(FolderStorage, "check_writable", hang)
    monkeypatch.setattr(readiness, "TIMEOUT_S", 0.1)
    for _ in range(10):
        assert await services.readiness.checks() == dict.fromkeys(readiness.CHECKS, readiness.NO_ANSWER)
    assert len(hanging) == 1
    let_go.set()
    monkeypatch.setattr(readiness, "TIMEOUT_S", 60.0)
    assert (await services.readiness.checks())["storage"].status == "ok"
