"""`apex webhooks`: the process that delivers webhooks, and the secrets that sign them."""

from typing import Annotated

import typer

from app.cli.flags import DataDirFlag, RedisUrlFlag, export, tenant_option
from app.cli.terminal import note
from app.core.callers import ANONYMOUS_TENANT, data_owner
from app.core.printable import printable

COLUMNS = ("tenant", "created", "signs until")
HOUR_S = 60 * 60

TenantFlag = Annotated[
    str, tenant_option(f"Whose webhooks it signs; a service without keys has the tenant {ANONYMOUS_TENANT}.")
]

TestFlag = Annotated[bool, typer.Option("--test", help="Of what the tenant's test keys make, which has its own.")]

app = typer.Typer(help="Deliver webhooks, and look after the secrets that sign them.")
secret = typer.Typer(no_args_is_help=True, help="Make, replace and list the secrets that sign webhooks.")
app.add_typer(secret, name="secret")


@app.callback(invoke_without_command=True)
def webhooks(context: typer.Context, redis_url: RedisUrlFlag = None) -> None:
    """Deliver webhooks until Ctrl-C, beside a Redis and an API that run elsewhere. Several may run at once."""
    if context.invoked_subcommand is not None:
        return
    export(redis_url=redis_url)
    from app.egress.process import main

    main()


@secret.command()
def create(
    tenant: TenantFlag = ANONYMOUS_TENANT,
    test: TestFlag = False,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
) -> None:
    """Make a tenant's first secret and print it, this once."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.secret_store import secret_store

    with secret_store() as secrets:
        made = secrets.create(data_owner(tenant, livemode=not test))
    typer.echo(made.key)  # alone on stdout, so that a script can take it
    note(f"Signs the webhooks of tenant {tenant} from now on. It is not shown again.")


@secret.command()
def rotate(
    tenant: TenantFlag = ANONYMOUS_TENANT,
    test: TestFlag = False,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=24 * 30, help="How long the secret before signs, too; 0 where it has leaked.")
    ] = 24.0,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
) -> None:
    """Make a new secret and print it, this once; until the one before ends, each webhook has a signature of both."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.secret_store import secret_store

    with secret_store() as secrets:
        made = secrets.rotate(data_owner(tenant, livemode=not test), overlap_s=overlap_hours * HOUR_S)
    typer.echo(made.key)
    note(f"Signs the webhooks of tenant {tenant} from now on, the secret before for {overlap_hours:g} h more.")


@secret.command("list")
def list_secrets(data_dir: DataDirFlag = None, redis_url: RedisUrlFlag = None) -> None:
    """Show which tenants have secrets and since when, tab-separated. The secrets themselves are not shown."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.api.schemas.fields import timestamp
    from app.cli.secret_store import secret_store

    with secret_store() as secrets:
        found = secrets.list_all()
    typer.echo("\t".join(COLUMNS))
    for tenant, known in found.items():
        for each in known:
            typer.echo(
                "\t".join((printable(tenant), timestamp(each.created_at) or "", timestamp(each.expires_at) or ""))
            )
