"""`apex keys`: make, list and revoke the API keys that a service keeps in its Redis, while it runs or not."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import DataDirFlag, RedisUrlFlag, export

if TYPE_CHECKING:
    from app.api.auth.api_keys import ApiKey

COLUMNS = ("id", "tenant", "scopes", "created", "revoked", "name")

LimitFlag = Annotated[int | None, typer.Option(min=1, help="Its own limit; the service's default where not given.")]

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of a service.")


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is: jobs belong to tenants.")],
    name: Annotated[str, typer.Option(help="A note for yourself.")] = "",
    scopes: Annotated[
        str, typer.Option(help="What it may do, separated by commas.")
    ] = "score:write,jobs:read,jobs:delete,ops:read",
    requests_per_minute: LimitFlag = None,
    jobs_in_flight: LimitFlag = None,
    bytes_per_day: LimitFlag = None,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
) -> None:
    """Make a key and print it, this once."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.key_store import key_store
    from app.core.callers import Limits

    limits = Limits(requests_per_minute, jobs_in_flight, bytes_per_day)
    with key_store() as keys:
        key, secret = keys.create(tenant=tenant, name=name, scopes=scopes.split(","), limits=limits)
    typer.echo(secret)  # alone on stdout, so that a script can take it
    typer.echo(f"{_description(key)}. Only its hash is kept: this key is not shown again.", err=True)


@app.command("list")
def list_keys(data_dir: DataDirFlag = None, redis_url: RedisUrlFlag = None) -> None:
    """Show every key that was made, without its secret."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.api.schemas.fields import timestamp
    from app.cli.key_store import key_store

    with key_store() as keys:
        found = keys.list_all()
    typer.echo("\t".join(COLUMNS))
    for key in found:
        dates = (timestamp(key.created_at) or "", timestamp(key.revoked_at) or "")
        typer.echo("\t".join((key.id, key.tenant, ",".join(key.scopes), *dates, key.name)))


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
    typer.echo(f"{_description(key)}. Revoked at {timestamp(key.revoked_at)}.", err=True)


def _description(key: "ApiKey") -> str:
    return f"Key {key.id} of tenant {key.tenant}, scopes {','.join(key.scopes)}"
