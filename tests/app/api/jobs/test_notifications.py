"""Wake-ups: nobody sleeps through what happens, and nobody is left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from app.api.jobs.notifications import TooManyListeners, Wakeups
from app.cli.embedded_redis import EmbeddedRedis
from app.core.jobs.store import PROGRESS, moved_channel
from app.core.redis_client import connect_for_wakeups

pytestmark = pytest.mark.anyio

SOON_S = 2.0


@pytest.fixture
async def wakeups(redis_url: str) -> AsyncIterator[Wakeups]:
    wakeups = Wakeups(connect_for_wakeups(redis_url), max_listeners=100)
    yield wakeups
    await wakeups.close()


async def settle(redis: Redis, n_subscriptions: int) -> None:
    async with asyncio.timeout(SOON_S):
        while redis.pubsub_numpat() != n_subscriptions:
            await asyncio.sleep(0.01)


async def test_what_moves_wakes_its_own_listener_alone(wakeups: Wakeups, redis: Redis) -> None:
    async with wakeups.listen("job_1") as one, wakeups.listen("job_2") as other:
        await one.moved(0.01), await other.moved(0.01)
        redis.publish(moved_channel("job_1"), PROGRESS)
        assert await one.moved(SOON_S)
        assert not await other.moved(0.05)


async def test_what_moves_between_two_sleeps_is_not_lost(wakeups: Wakeups, redis: Redis) -> None:
    async with wakeups.listen("job_1") as listener:
        await listener.moved(0.01)
        redis.publish(moved_channel("job_1"), PROGRESS)
        await asyncio.sleep(0.1)
        assert await listener.moved(0.01)
        assert not await listener.moved(0.01)


async def test_progress_does_not_wake_who_waits_for_the_end(wakeups: Wakeups, redis: Redis) -> None:
    async with wakeups.listen("job_1") as listener:
        await listener.over(0.01)
        redis.publish(moved_channel("job_1"), PROGRESS)
        assert not await listener.over(0.05)
        redis.publish(moved_channel("job_1"), "job.canceled")
        assert await listener.over(SOON_S)


async def test_all_listeners_share_one_subscription_and_leave_it_empty(wakeups: Wakeups, redis: Redis) -> None:
    async with AsyncExitStack() as stack:
        for number in range(100):
            await stack.enter_async_context(wakeups.listen(f"job_{number % 7}"))
        assert redis.pubsub_numpat() == 1
        with pytest.raises(TooManyListeners):
            await stack.enter_async_context(wakeups.listen("job_1"))
    assert (wakeups._count, wakeups._listeners) == (0, {})


async def test_a_cancelled_listener_is_forgotten(wakeups: Wakeups) -> None:
    async def sleep() -> None:
        async with wakeups.listen("job_1") as listener:
            while True:
                await listener.moved(60)

    sleeper = asyncio.create_task(sleep())
    await asyncio.sleep(0.1)
    assert wakeups._count == 1
    sleeper.cancel()
    await asyncio.wait([sleeper])
    assert (wakeups._count, wakeups._listeners) == (0, {})


async def test_closing_wakes_everybody_and_ends_the_subscription(wakeups: Wakeups, redis: Redis) -> None:
    async with wakeups.listen("job_1") as listener:
        await listener.over(0.01)
        await wakeups.close()
        assert wakeups.closed
        assert await listener.over(0.01)
    await settle(redis, 0)


async def test_a_new_connection_wakes_everybody_because_something_may_have_been_missed(
    wakeups: Wakeups, redis: Redis
) -> None:
    async with wakeups.listen("job_1") as listener:
        await listener.over(0.01)
        redis.client_kill_filter(_type="pubsub")
        assert await listener.over(SOON_S)
        redis.publish(moved_channel("job_1"), PROGRESS)
        assert await listener.moved(SOON_S)


async def test_an_outage_is_told_and_outlived(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        wakeups = Wakeups(connect_for_wakeups(server.url), max_listeners=10)
        async with wakeups.listen("job_1") as listener:
            server.stop()
            await asyncio.sleep(0.1)
            with pytest.raises(ConnectionError):
                async with wakeups.listen("job_2"):
                    pass
            await asyncio.to_thread(server.start)
            await listener.over(SOON_S)
            with Redis.from_url(server.url) as client:
                client.publish(moved_channel("job_1"), "job.failed")
            assert await listener.over(SOON_S)
        await wakeups.close()


async def test_a_subscription_that_falls_silent_is_replaced(
    wakeups: Wakeups, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.jobs.notifications.QUIET_S", 0.1)
    async with wakeups.listen("job_1") as listener:
        await listener.over(0.01)
        await asyncio.sleep(0.5)
        assert not await listener.over(0.01), "an answered ping is no reason to reconnect"
        redis.client_pause(400)
        assert await listener.over(SOON_S)
