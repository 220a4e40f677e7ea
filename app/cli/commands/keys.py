"""`apex keys`: make, list and revoke the API keys that a service keeps in its Redis, while it runs or not."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from app.cli.flags import DataDirFlag, RedisUrlFlag, export, tenant_option
from app.cli.terminal import literal, note, warn
from app.core.callers import DEFAULT_SCOPES, SCOPES
from app.core.printable import printable

if TYPE_CHECKING:
    from app.api.auth.api_keys import ApiKey

LIMITS = ("requests per minute", "jobs in flight", "bytes per day")
COLUMNS = ("id", "tenant", "scopes", "created", "revoked", "name", *LIMITS, "last use", "mode")
USUAL_WIDTH = 80
SCOPE_SETS = {SCOPES: "all", DEFAULT_SCOPES: "default"}

LimitFlag = Annotated[int | None, typer.Option(min=1, help="Its own limit; the service's default where not given.")]

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of a service.")


@app.command()
def create(
    tenant: Annotated[str, tenant_option("Whose key it is: jobs belong to tenants.")],
    name: Annotated[str, typer.Option(help="A note for yourself.")] = "",
    scopes: Annotated[str, typer.Option(help="What it may do, separated by commas.")] = ",".join(DEFAULT_SCOPES),
    requests_per_minute: LimitFlag = None,
    jobs_in_flight: LimitFlag = None,
    bytes_per_day: LimitFlag = None,
    test: Annotated[bool, typer.Option("--test", help="A key for trying things out: scores are made up.")] = False,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
) -> None:
    """Make a key and print it, this once."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.key_store import count_anonymous_jobs, key_store
    from app.core.callers import ANONYMOUS_TENANT, Limits

    limits = Limits(requests_per_minute, jobs_in_flight, bytes_per_day)
    with key_store() as keys:
        closes_service = tenant != ANONYMOUS_TENANT and not keys.any()
        n_jobs = count_anonymous_jobs(keys) if closes_service else 0
        key, secret = keys.create(tenant=tenant, name=name, scopes=scopes.split(","), limits=limits, livemode=not test)
    typer.echo(secret)  # alone on stdout, so that a script can take it
    note(f"{_description(key)}. Only its hash is kept: this key is not shown again.")
    if n_jobs:
        warn(
            f"jobs made without a key: {n_jobs:,}. Now that there is a key, only one of the tenant "
            f"{ANONYMOUS_TENANT!r} reaches them: apex keys create --tenant {ANONYMOUS_TENANT}"
        )


@app.command("list")
def list_keys(data_dir: DataDirFlag = None, redis_url: RedisUrlFlag = None) -> None:
    """Show every key that was made, without its secret: a table, or tab-separated values where it is piped."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.key_store import key_store

    with key_store() as keys:
        found, last_uses = keys.list_all(), keys.last_uses()
    console = Console()
    if console.is_terminal:
        console.print(_table(found, last_uses, console.width))
    else:
        _print_values(found, last_uses)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As 'apex keys list' shows it.")],
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
) -> None:
    """Close a key, at once and for good."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.api.schemas.fields import timestamp
    from app.cli.key_store import key_store

    with key_store() as keys:
        key = keys.revoke(key_id)
    note(f"{_description(key)}. Revoked at {timestamp(key.revoked_at)}.")


def _description(key: "ApiKey") -> str:
    kind = "Key" if key.livemode else "Test key"
    return f"{kind} {key.id} of tenant {key.tenant}, scopes {','.join(key.scopes)}"


def _print_values(keys: Sequence["ApiKey"], last_uses: Mapping[str, float]) -> None:
    """A line a key with exact values, empty where there is none."""
    from app.api.schemas.fields import timestamp

    typer.echo("\t".join(COLUMNS))
    for key in keys:
        dates = (timestamp(key.created_at), timestamp(key.revoked_at))
        limits = (key.limits.requests_per_minute, key.limits.jobs_in_flight, key.limits.bytes_per_day)
        use, mode = timestamp(last_uses.get(key.id)), _mode(key)
        cells = (key.id, key.tenant, ",".join(key.scopes), *dates, key.name, *limits, use, mode)
        typer.echo("\t".join("" if cell is None else printable(str(cell)) for cell in cells))


def _table(keys: Sequence["ApiKey"], last_uses: Mapping[str, float], width: int) -> Table:
    """A row a key, in local time. Only tenants and names are folded, unless the terminal is narrower than usual."""
    folded = ("tenant", "name") if width >= USUAL_WIDTH else COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("id", "tenant", "name", "scopes", "limits", "created", "last use"):
        table.add_column(name, overflow="fold", no_wrap=name not in folded)
    for key in keys:
        scopes = [SCOPE_SETS[key.scopes]] if key.scopes in SCOPE_SETS else key.scopes
        allowed = "\n".join(scopes if key.livemode else ("test data", *scopes))
        created = _when(key.created_at) + (f"\nrevoked\n{_when(key.revoked_at)}" if key.revoked_at else "")
        outside = map(literal, (key.id, key.tenant, key.name))
        table.add_row(*outside, allowed, _limits(key), created, _when(last_uses.get(key.id)))
    return table


def _mode(key: "ApiKey") -> str:
    return "live" if key.livemode else "test"


def _limits(key: "ApiKey") -> str:
    limits = key.limits
    parts = (
        f"{limits.requests_per_minute:,}/min" if limits.requests_per_minute else "",
        f"{limits.jobs_in_flight:,} jobs" if limits.jobs_in_flight else "",
        f"{decimal(limits.bytes_per_day)}/day" if limits.bytes_per_day else "",
    )
    return "\n".join(filter(None, parts)) or "default"


def _when(at: float | None) -> str:
    return "–" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d\n%H:%M")
