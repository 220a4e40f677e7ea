"""`apex webhooks`: the only process that calls out. Delivers webhooks, and fetches tracks that came as a URL.

Several may run, on any machine.
"""

import asyncio
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis

from app.api.batches.store import BatchStore
from app.core.jobs.store import JobStore
from app.core.logging import configure_logging
from app.core.misconfiguration import Misconfigured, ends_if_misconfigured
from app.core.redis.client import connect
from app.core.redis.replicas import Replicas
from app.core.redis.server import check_at_start
from app.core.settings import ServiceSettings, load_settings
from app.core.signals import INSTANCE_ID_VAR, STOP_SIGNALS, ignore_hangup
from app.core.webhooks.outbox import LEASE_S, Outbox
from app.core.webhooks.secrets import WebhookSecrets
from app.egress.client import guarded_client
from app.egress.delivery import SCHEDULE_S, TIMEOUT_S, Sender
from app.egress.dispatcher import Dispatcher
from app.egress.fetcher import FETCH_TIMES, FetchTimes
from app.egress.fetching import check_storage, fetch_tracks
from app.egress.messages import Messages

#: Tries of one Redis command: a short outage does not lose what came of an attempt.
REDIS_MAX_RETRIES = 5

NOTHING_ALLOWED = (
    "neither APEX_WEBHOOK_HOSTS nor APEX_AUDIO_URL_HOSTS allows a host, so there is nothing to do: name hosts, or * for"
    " every public one"
)


@dataclass(frozen=True)
class Pace:
    """When events are tried again, how long a dispatcher that died keeps them, and the times of fetches."""

    schedule_s: Sequence[float] = SCHEDULE_S
    lease_s: float = LEASE_S
    fetch_times: FetchTimes = FETCH_TIMES


USUAL_PACE = Pace()


def main(pace: Pace = USUAL_PACE) -> None:
    """Run with the settings of the environment until SIGTERM or Ctrl-C."""
    with ends_if_misconfigured():
        settings = load_settings(ServiceSettings)
        configure_logging(settings.log_level, settings.log_format)
        if not settings.calls_out:
            raise Misconfigured(NOTHING_ALLOWED)
        check_at_start(settings.redis_url)
        if settings.audio_url_hosts:
            check_storage(settings)
    ignore_hangup()
    asyncio.run(serve(settings, pace))


async def serve(settings: ServiceSettings, pace: Pace) -> None:
    """Do what there is to do until a signal comes; then end what was begun, for as long as a stop may take."""
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running = asyncio.create_task(run(settings, pace, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait([running], timeout=settings.drain_timeout_s)
    if running.done():
        running.result()
    running.cancel()


async def run(settings: ServiceSettings, pace: Pace, stop: asyncio.Event) -> None:
    """Do what there is to do until `stop`."""
    with connect(settings.redis_url, max_retries=REDIS_MAX_RETRIES) as redis:
        async with asyncio.TaskGroup() as tasks:
            if settings.webhook_hosts:
                tasks.create_task(deliver(settings, redis, pace, stop))
            if settings.audio_url_hosts:
                tasks.create_task(fetch_tracks(settings, redis, stop, pace.fetch_times))


async def deliver(settings: ServiceSettings, redis: Redis, pace: Pace, stop: asyncio.Event) -> None:
    """Send what is due until `stop`."""
    keys, ttl_s = settings.redis_keys, settings.result_ttl_s
    replicas = Replicas(redis, keys, needed=settings.redis_min_replicas)
    outbox = Outbox(redis, keys, result_ttl_s=ttl_s, replicas=replicas)
    messages = Messages(JobStore(redis, keys), BatchStore(redis, keys, result_ttl_s=ttl_s), ttl_s, settings.root_path)
    async with guarded_client(settings.webhook_rules, timeout_s=TIMEOUT_S, ca_file=settings.egress_ca_file) as client:
        sender = Sender(client, outbox, messages, WebhookSecrets(redis, keys), pace.schedule_s)
        name = os.environ.get(INSTANCE_ID_VAR) or secrets.token_hex(8)
        await Dispatcher(outbox, sender, name=name, lease_s=pace.lease_s).run(stop)


if __name__ == "__main__":
    main()
