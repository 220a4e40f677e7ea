"""`apex webhooks`: the only process that calls out. Delivers webhooks; several may run, on any machine."""

import asyncio
import os
import secrets
from collections.abc import Sequence

from app.api.batches.store import BatchStore
from app.core.jobs.store import JobStore
from app.core.logging import configure_logging
from app.core.misconfiguration import Misconfigured, ends_if_misconfigured
from app.core.redis.client import connect
from app.core.redis.replicas import Replicas
from app.core.redis.server import check_at_start
from app.core.settings import ServiceSettings, load_settings
from app.core.signals import INSTANCE_ID_VAR, STOP_SIGNALS, ignore_hangup
from app.core.webhooks.outbox import Outbox
from app.core.webhooks.secrets import WebhookSecrets
from app.egress.client import guarded_client
from app.egress.delivery import SCHEDULE_S, TIMEOUT_S, Sender
from app.egress.dispatcher import Dispatcher
from app.egress.messages import Messages

#: Tries of one Redis command: a short outage does not lose what came of an attempt.
REDIS_MAX_RETRIES = 5

NOTHING_ALLOWED = "APEX_WEBHOOK_HOSTS allows no host, so there is nothing to do: name hosts, or * for every public one"


def main(schedule_s: Sequence[float] = SCHEDULE_S) -> None:
    """Run with the settings of the environment until SIGTERM or Ctrl-C."""
    with ends_if_misconfigured():
        settings = load_settings(ServiceSettings)
        configure_logging(settings.log_level, settings.log_format)
        if not settings.webhook_hosts:
            raise Misconfigured(NOTHING_ALLOWED)
        check_at_start(settings.redis_url)
    ignore_hangup()
    asyncio.run(serve(settings, schedule_s))


async def serve(settings: ServiceSettings, schedule_s: Sequence[float]) -> None:
    """Send what is due until a signal comes; then end what was begun, for as long as a stop may take."""
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running = asyncio.create_task(run(settings, schedule_s, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait([running], timeout=settings.drain_s)
    if running.done():
        running.result()
    running.cancel()


async def run(settings: ServiceSettings, schedule_s: Sequence[float], stop: asyncio.Event) -> None:
    """Send what is due until `stop`."""
    keys, ttl_s = settings.redis_keys, settings.result_ttl_s
    with connect(settings.redis_url, max_retries=REDIS_MAX_RETRIES) as redis:
        replicas = Replicas(redis, keys, needed=settings.redis_min_replicas)
        outbox = Outbox(redis, keys, result_ttl_s=ttl_s, replicas=replicas)
        messages = Messages(
            JobStore(redis, keys), BatchStore(redis, keys, result_ttl_s=ttl_s), ttl_s, settings.root_path
        )
        async with guarded_client(
            settings.webhook_rules, timeout_s=TIMEOUT_S, ca_file=settings.egress_ca_file
        ) as client:
            sender = Sender(client, outbox, messages, WebhookSecrets(redis, keys), schedule_s)
            name = os.environ.get(INSTANCE_ID_VAR) or secrets.token_hex(8)
            await Dispatcher(outbox, sender, name=name).run(stop)


if __name__ == "__main__":
    main()
