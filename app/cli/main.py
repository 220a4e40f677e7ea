"""`apex`, the command line: flags in, one module of `app.cli.commands` called.

Nothing heavy is imported until a command runs, so that `apex --help` is quick. A flag stands for the setting of the
same name and is passed on in the environment, where the processes that a command starts find it too.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import training

app = typer.Typer(
    name="apex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Score music with APEX: two popularity scores and five aesthetic ones, from the audio alone.",
)
weights_app = typer.Typer(no_args_is_help=True, help="Get, make, convert and check weights.")
app.add_typer(weights_app, name="weights")
app.add_typer(training.app)
keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of a service.")
app.add_typer(keys_app, name="keys")

HostFlag = Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.")]
PortFlag = Annotated[int | None, typer.Option(help="Port to listen on. Default 8000; 0 takes a free one.")]
WorkersFlag = Annotated[int | None, typer.Option(help="Scoring processes. Default 1.")]
DataFlag = Annotated[Path | None, typer.Option("--data-dir", help="Folder for audio and records. Default apex-data.")]
WeightsFlag = Annotated[Path | None, typer.Option("--weights", help="Weights directory. Default weights.")]
DeviceFlag = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or auto. Default auto.")]
RedisFlag = Annotated[str | None, typer.Option(help="Redis to use. Default redis://127.0.0.1:6379/0.")]
LimitFlag = Annotated[int | None, typer.Option(min=1, help="Its own limit; the service's default where not given.")]
OpenFlag = Annotated[
    bool | None, typer.Option("--allow-unauthenticated", help="Serve without API keys where others can reach it.")
]


def main() -> None:
    """Run `apex`; an expected error is one line on stderr and exit status 1."""
    from model.domain import ApexError

    try:
        app()
    except ApexError as error:
        fail(str(error))


def fail(message: str, *, status: int = 1) -> None:
    """Say on stderr why the command ends, and end it."""
    typer.echo(f"apex: {message}", err=True)
    sys.exit(status)


def export(**flags: Any) -> None:
    """Turn the flags that were given into settings, for this process and those that it starts."""
    for name, value in flags.items():
        if value is not None:
            os.environ[f"APEX_{name.upper()}"] = str(value)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"apex {version('apex-scoring')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""


@app.command()
def up(
    host: HostFlag = None,
    port: PortFlag = None,
    workers: WorkersFlag = None,
    data_dir: DataFlag = None,
    weights: WeightsFlag = None,
    device: DeviceFlag = None,
    allow_unauthenticated: OpenFlag = None,
    or_stand_in: Annotated[
        bool, typer.Option("--or-stand-in", help="Without weights, fetch them, or make untrained ones.")
    ] = False,
) -> None:
    """Run everything on this machine: a private Redis, the API and the workers. Ctrl-C stops all."""
    export(host=host, port=port, workers=workers, data_dir=data_dir, weights_dir=weights, device=device)
    export(allow_unauthenticated=allow_unauthenticated)
    from app.cli.commands import up as command

    command.run(or_stand_in=or_stand_in)


@app.command()
def api(
    host: HostFlag = None,
    port: PortFlag = None,
    data_dir: DataFlag = None,
    redis_url: RedisFlag = None,
    allow_unauthenticated: OpenFlag = None,
) -> None:
    """Run the HTTP front end alone, beside a Redis and workers that run elsewhere."""
    export(host=host, port=port, data_dir=data_dir, redis_url=redis_url, allow_unauthenticated=allow_unauthenticated)
    from app.cli.commands import api as command

    command.run()


@app.command()
def worker(
    workers: WorkersFlag = None,
    data_dir: DataFlag = None,
    redis_url: RedisFlag = None,
    weights: WeightsFlag = None,
    device: DeviceFlag = None,
) -> None:
    """Run the scoring processes of one machine, beside a Redis and an API that run elsewhere."""
    export(workers=workers, data_dir=data_dir, redis_url=redis_url, weights_dir=weights, device=device)
    from worker.main import main as run

    run()


@app.command()
def demo(weights: WeightsFlag = None, device: DeviceFlag = None) -> None:
    """Start everything, score a piece of music made on the spot, show the scores, stop everything."""
    export(weights_dir=weights, device=device)
    from app.cli.commands import demo as command

    command.run()


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tracks to score.")],
    weights: WeightsFlag = None,
    device: DeviceFlag = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
    head: Annotated[
        Path | None, typer.Option(help="Another head than that of the weights, such as run/apex.safetensors.")
    ] = None,
) -> None:
    """Score files in this process, without a server. A bad file is reported, the others still score; then exit 1."""
    export(weights_dir=weights, device=device)
    from app.cli.commands import score as command

    sys.exit(command.run(files, as_json=json, head=head))


@app.command()
def settings() -> None:
    """Print every setting, its default and its meaning as a Markdown table."""
    from app.cli.commands.settings import markdown

    typer.echo(markdown())


@app.command()
def openapi() -> None:
    """Print the OpenAPI document of the HTTP interface."""
    from app.cli.commands import openapi as command

    typer.echo(command.document())


@weights_app.command("pull")
def weights_pull(
    directory: Annotated[Path, typer.Argument(help="Where to put them.")] = Path("weights"),
    endpoint: Annotated[str | None, typer.Option(help="Another hub to fetch from.")] = None,
) -> None:
    """Fetch the published weights, check them, convert them to safetensors. Resumes where it stopped."""
    from app.cli.commands import weights as command

    command.pull(directory, endpoint=endpoint)


@weights_app.command("stand-in")
def weights_stand_in(
    directory: Annotated[Path, typer.Argument(help="Where to put them.")] = Path("weights"),
    tiny: Annotated[bool, typer.Option("--tiny", help="A network of toy size, for tests.")] = False,
    task: Annotated[str, typer.Option(help="full (seven scores) or popularity (two).")] = "full",
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
) -> None:
    """Make untrained weights of the same shapes: everything can be tried, but the scores mean nothing."""
    from app.cli.commands import weights as command

    command.stand_in(directory, size="tiny" if tiny else "full", task=task, seed=seed)


@weights_app.command("verify")
def weights_verify(directory: Annotated[Path, typer.Argument(help="Weights directory.")] = Path("weights")) -> None:
    """Check every file, hash and tensor of a weights directory."""
    from app.cli.commands import weights as command

    command.verify(directory)


@weights_app.command("convert")
def weights_convert(
    source: Annotated[Path, typer.Argument(help="Directory in a published layout.")],
    directory: Annotated[Path, typer.Argument(help="Where to put the result.")],
    head: Annotated[
        Path | None, typer.Option(help="A head to take instead of the source's, such as run/apex.safetensors.")
    ] = None,
) -> None:
    """Turn weights in any published layout into safetensors with a manifest; the numbers stay the same."""
    from app.cli.commands import weights as command

    command.convert(source, directory, head=head)


@keys_app.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="Whose key it is: jobs belong to tenants.")],
    name: Annotated[str, typer.Option(help="A note for yourself.")] = "",
    scopes: Annotated[
        str, typer.Option(help="What it may do, separated by commas.")
    ] = "score:write,jobs:read,jobs:delete,ops:read",
    requests_per_minute: LimitFlag = None,
    jobs_in_flight: LimitFlag = None,
    bytes_per_day: LimitFlag = None,
    data_dir: DataFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Make a key and print it, this once."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.commands import keys as command
    from app.core.callers import Limits

    limits = Limits(requests_per_minute, jobs_in_flight, bytes_per_day)
    command.create(tenant=tenant, name=name, scopes=scopes.split(","), limits=limits)


@keys_app.command("list")
def keys_list(data_dir: DataFlag = None, redis_url: RedisFlag = None) -> None:
    """Show every key that was made, without its secret."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.commands import keys as command

    command.show()


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As 'apex keys list' shows it.")],
    data_dir: DataFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Close a key, at once and for good."""
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.commands import keys as command

    command.revoke(key_id)
