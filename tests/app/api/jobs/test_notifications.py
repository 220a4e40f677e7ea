"""Notifications of jobs: no listener misses a change, and none is left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from app.api.jobs.notifications import JobNotifications, TenantTooManyListeners, TooManyListeners
from app.cli.serving.embedded_redis import EmbeddedRedis
from app.core.callers import Caller
from app.core.jobs.models import PROGRESS
from app.core.redis.client import connect_for_notifications
from tests.conftest import KEYS
from tests.proxy import proxy
from tests.redis_servers import pair

pytestmark = pytest.mark.anyio

#: Longer than any test waits.
SOON_S = 60.0


@pytest.fixture
async def notifications(redis_url: str) -> AsyncIterator[JobNotifications]:
    notifications = JobNotifications(connect_for_notifications(redis_url), KEYS, max_listeners=100, max_per_tenant=3)
    yield notifications
    await notifications.close()


async def settle(redis: Redis, n_subscriptions: int) -> None:
    async with asyncio.timeout(SOON_S):
        while redis.pubsub_numpat() != n_subscriptions:
            await asyncio.sleep(0.01)


async def test_what_moves_wakes_its_own_listener_alone(notifications: JobNotifications, redis: Redis) -> None:
    async with notifications.listen("job_1", Caller()) as one, notifications.listen("job_2", Caller()) as other:
        await one.wait_update(0.01), await other.wait_update(0.01)
        redis.publish(KEYS.updates_channel("job_1"), PROGRESS)
        assert await one.wait_update(SOON_S)
        assert not await other.wait_update(0.05)


async def test_what_moves_between_two_sleeps_is_not_lost(notifications: JobNotifications, redis: Redis) -> None:
    async with notifications.listen("job_1", Caller()) as listener:
        await listener.wait_update(0.01)
        redis.publish(KEYS.updates_channel("job_1"), PROGRESS)
        await asyncio.sleep(0.1)
        assert await listener.wait_update(SOON_S)
        assert not await listener.wait_update(0.01)


async def test_progress_does_not_wake_who_waits_for_the_end(notifications: JobNotifications, redis: Redis) -> None:
    async with notifications.listen("job_1", Caller()) as listener:
        await listener.wait_end(0.01)
        redis.publish(KEYS.updates_channel("job_1"), PROGRESS)
        assert not await listener.wait_end(0.05)
        redis.publish(KEYS.updates_channel("job_1"), "job.canceled")
        assert await listener.wait_end(SOON_S)


async def test_all_listeners_share_one_subscription_and_leave_it_empty(
    notifications: JobNotifications, redis: Redis
) -> None:
    async with AsyncExitStack() as stack:
        for number in range(100):
            await stack.enter_async_context(notifications.listen(f"job_{number % 7}", Caller()))
        assert redis.pubsub_numpat() == 1
        with pytest.raises(TooManyListeners):
            await stack.enter_async_context(notifications.listen("job_1", Caller()))
    assert (notifications._count, notifications._listeners) == (0, {})


async def test_a_cancelled_listener_is_forgotten(notifications: JobNotifications) -> None:
    async def sleep() -> None:
        async with notifications.listen("job_1", Caller()) as listener:
            while True:
                await listener.wait_update(60)

    sleeper = asyncio.create_task(sleep())
    await asyncio.sleep(0.1)
    assert notifications._count == 1
    sleeper.cancel()
    await asyncio.wait([sleeper])
    assert (notifications._count, notifications._listeners) == (0, {})


async def test_closing_wakes_everybody_and_ends_the_subscription(notifications: JobNotifications, redis: Redis) -> None:
    async with notifications.listen("job_1", Caller()) as listener:
        await listener.wait_end(0.01)
        await notifications.close()
        assert notifications.closed
        assert await listener.wait_end(0.01)
    await settle(redis, 0)


async def test_a_new_connection_wakes_everybody_because_something_may_have_been_missed(
    notifications: JobNotifications, redis: Redis
) -> None:
    async with notifications.listen("job_1", Caller()) as listener:
        await listener.wait_end(0.01)
        redis.client_kill_filter(_type="pubsub")
        assert await listener.wait_end(SOON_S)
        redis.publish(KEYS.updates_channel("job_1"), PROGRESS)
        assert await listener.wait_update(SOON_S)


async def test_an_outage_is_logged_and_survived(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        notifications = JobNotifications(
            connect_for_notifications(server.url), KEYS, max_listeners=10, max_per_tenant=3
        )
        async with notifications.listen("job_1", Caller()) as listener:
            server.stop()
            await asyncio.sleep(0.1)
            with pytest.raises(ConnectionError):
                async with notifications.listen("job_2", Caller()):
                    pass
            await asyncio.to_thread(server.start)
            await listener.wait_end(SOON_S)
            with Redis.from_url(server.url) as client:
                client.publish(KEYS.updates_channel("job_1"), "job.failed")
            assert await listener.wait_end(SOON_S)
        await notifications.close()


async def test_a_subscription_that_falls_silent_is_replaced(
    notifications: JobNotifications, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.jobs.notifications.IDLE_TIMEOUT_S", 0.4)
    async with notifications.listen("job_1", Caller()) as listener:
        await listener.wait_end(0.01)
        await asyncio.sleep(1.0)
        assert not await listener.wait_end(0.01), "an answered ping is no reason to reconnect"
        redis.client_pause(1500)
        assert await listener.wait_end(SOON_S)


async def test_a_tenant_takes_no_more_than_its_share(notifications: JobNotifications) -> None:
    alice, bob = Caller("alice", key_id="a"), Caller("bob", key_id="b")
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(notifications.listen("job_1", alice))
        with pytest.raises(TenantTooManyListeners):
            await stack.enter_async_context(notifications.listen("job_1", alice))
        await stack.enter_async_context(notifications.listen("job_1", bob))
    assert not notifications._by_tenant
    async with notifications.listen("job_1", alice):
        pass


async def test_callers_without_a_key_share_all_there_are(notifications: JobNotifications) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(100):
            await stack.enter_async_context(notifications.listen("job_1", Caller()))


async def test_a_subscription_to_an_old_master_that_hears_nothing_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.jobs.notifications.IDLE_TIMEOUT_S", 0.2)
    with pair(tmp_path) as (master, replica), proxy(master.url) as address, replica.client() as new:
        notifications = JobNotifications(
            connect_for_notifications(address.url), KEYS, max_listeners=1, max_per_tenant=1
        )
        async with notifications.listen("job_1", Caller()) as listener:
            await listener.wait_end(0.01)
            new.replicaof("NO", "ONE")
            address.server_url = replica.url
            with master.client() as old:
                old.replicaof("127.0.0.1", "1")  # it answers on, and hears of nothing any more
            await settle(new, 1)
            await listener.wait_end(SOON_S)
            new.publish(KEYS.updates_channel("job_1"), "job.canceled")
            assert await listener.wait_end(SOON_S)
        await notifications.close()
