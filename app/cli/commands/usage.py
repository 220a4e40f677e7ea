"""`apex usage`: what tenants and their API keys have used, as CSV."""

import sys
from typing import Annotated

import typer

from app.cli.flags import DataDirFlag, RedisUrlFlag, export, tenant_option

COLUMNS = ("date", "tenant", "mode", "key_id", "jobs", "succeeded", "failed", "canceled", "audio_seconds", "bytes")


def usage(
    days: Annotated[int, typer.Option(min=1, max=400, help="Of how many days, today among them.")] = 30,
    tenant: Annotated[str | None, tenant_option("Of this tenant alone.")] = None,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
) -> None:
    """Print what was used by day, tenant and API key, as CSV. A job counts once, at its end; days are in UTC."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.serving.service_redis import service_redis
    from app.core.callers import account_of, is_live
    from app.core.csv_lines import csv_line
    from app.core.settings import ServiceSettings, load_settings
    from app.core.usage import UsageStore

    settings = load_settings(ServiceSettings)
    with service_redis(settings) as redis:
        found = UsageStore(redis, settings.redis_keys).of_all(days=days)
    sys.stdout.write(csv_line(COLUMNS))
    for each in found:
        account, mode = account_of(each.tenant), "live" if is_live(each.tenant) else "test"
        for key_id, counts in each.by_key.items() if tenant in (None, account) else ():
            states = (counts.jobs, counts.succeeded, counts.failed, counts.canceled)
            cells = (each.day, account, mode, key_id, *states, counts.audio_ms / 1000, counts.bytes)
            sys.stdout.write(csv_line(cells))
