"""`apex settings`: every setting with its meaning."""

import typer


def settings() -> None:
    """Print every setting, its default and its meaning as a Markdown table."""
    from app.cli.settings import markdown

    typer.echo(markdown())
