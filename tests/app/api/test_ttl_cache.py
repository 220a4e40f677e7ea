"""A value is read once within its time to live, and by one of those who ask for it at the same time."""

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from anyio import to_thread

from app.api.ttl_cache import TtlCache


def test_a_value_is_read_once_within_its_ttl() -> None:
    number = TtlCache(itertools.count(1).__next__, ttl_s=60.0)
    assert [number(), number()] == [1, 1]
    number.ttl_s = -1.0
    assert [number(), number()] == [2, 3]


def test_none_is_a_value_too() -> None:
    answers = iter([None, "known"])
    value = TtlCache(lambda: next(answers), ttl_s=60.0)
    assert [value(), value()] == [None, None]


@pytest.mark.anyio
async def test_a_thread_is_taken_only_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = TtlCache(threading.get_ident, ttl_s=60.0)
    first = await thread.get_async()
    assert first != threading.get_ident()
    monkeypatch.setattr(to_thread, "run_sync", None)
    assert await thread.get_async() == first


@pytest.mark.anyio
async def test_of_many_that_find_it_stale_one_reads_for_all() -> None:
    number, go_on = itertools.count(1), threading.Event()

    def read() -> int:
        go_on.wait(10)
        return next(number)

    cache = TtlCache(read, ttl_s=-1.0)
    asking = [asyncio.create_task(cache.get_async()) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()  # the one for whom the read was begun
    go_on.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [1] * 19
    assert await cache.get_async() == 2


@pytest.mark.anyio
async def test_an_error_is_raised_to_all_who_wait_and_not_kept() -> None:
    answers = iter([ConnectionError("away"), "known"])

    def read() -> object:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    cache = TtlCache(read, ttl_s=60.0)
    found = await asyncio.gather(cache.get_async(), cache.get_async(), return_exceptions=True)
    assert list(map(str, found)) == ["away", "away"]
    assert await cache.get_async() == "known"


def test_of_many_threads_that_find_it_stale_one_reads_for_all() -> None:
    number, all_ask = itertools.count(1), threading.Barrier(9)

    def read() -> int:
        all_ask.wait(10)
        return next(number)

    def ask(begins: bool) -> int:
        if not begins:
            all_ask.wait(10)
        return cache()

    cache = TtlCache(read, ttl_s=60.0)
    with ThreadPoolExecutor(9) as pool:
        answers = [asked.result() for asked in [pool.submit(ask, n == 0) for n in range(9)]]
    assert answers == [1] * 9
