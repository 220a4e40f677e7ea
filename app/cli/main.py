"""`apex`, the command line: mounts the commands of `app.cli.commands`, one module each.

A command imports what is heavy in its body, so that `apex --help` is quick.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version as installed_version
from io import TextIOWrapper
from typing import Annotated

import typer

from app.cli.commands import catalogue, keys, storage, webhooks, weights
from app.cli.commands.api import api
from app.cli.commands.demo import demo
from app.cli.commands.openapi import openapi
from app.cli.commands.score import score
from app.cli.commands.settings import settings
from app.cli.commands.training.arena import arena
from app.cli.commands.training.evaluate import evaluate
from app.cli.commands.training.extract import extract
from app.cli.commands.training.labels import labels
from app.cli.commands.training.sweep import sweep
from app.cli.commands.training.train import train
from app.cli.commands.up import up
from app.cli.commands.usage import usage
from app.cli.commands.worker import worker
from app.cli.errors import fail
from app.core.misconfiguration import ends_if_misconfigured
from model.domain import ApexError

SERVICE_COMMANDS: tuple[Callable[..., None], ...] = (up, api, worker, demo, score, settings, usage, openapi)
#: In the order in which they are used.
TRAINING_COMMANDS: tuple[Callable[..., None], ...] = (labels, extract, train, sweep, evaluate, arena)

app = typer.Typer(
    name="apex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Score music with APEX: two popularity scores and five aesthetic ones, from the audio alone.",
)
training = typer.Typer()
for command in SERVICE_COMMANDS:
    app.command()(command)
for command in TRAINING_COMMANDS:
    training.command()(command)
app.add_typer(weights.app, name="weights")
app.add_typer(training)
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(keys.app, name="keys")
app.add_typer(storage.app, name="storage")
app.add_typer(webhooks.app, name="webhooks")


def main() -> None:
    """Run `apex`; an expected error is one line on stderr and exit status 1, or 78 where a setting cannot be used."""
    # A file name may hold what the terminal's encoding lacks, as stderr already expects.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with ends_if_misconfigured():
            app()
    except ApexError as error:
        fail(str(error))


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"apex {installed_version('apex-scoring')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""
