"""A value is read once within its time to live, and None is not cached."""

import itertools
import threading

import pytest
from anyio import to_thread

from app.api import ttl_cache
from app.api.ttl_cache import TtlCache


def test_a_value_is_read_once_within_its_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl_cache, "TTL_S", 60.0)
    number = TtlCache(itertools.count(1).__next__)
    assert [number(), number()] == [1, 1]
    monkeypatch.setattr(ttl_cache, "TTL_S", -1.0)
    assert [number(), number()] == [2, 3]


def test_none_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl_cache, "TTL_S", 60.0)
    answers = iter([None, "known"])
    value = TtlCache(lambda: next(answers))
    assert [value(), value(), value()] == [None, "known", "known"]


@pytest.mark.anyio
async def test_a_thread_is_taken_only_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl_cache, "TTL_S", 60.0)
    thread = TtlCache(threading.get_ident)
    first = await thread.get_async()
    assert first != threading.get_ident()
    monkeypatch.setattr(to_thread, "run_sync", None)
    assert await thread.get_async() == first
