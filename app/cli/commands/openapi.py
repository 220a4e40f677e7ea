"""`apex openapi`: the OpenAPI document without a server."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import typer


def openapi() -> None:
    """Print the OpenAPI document of the HTTP interface."""
    typer.echo(document())


def document() -> str:
    """The document as text, in a stable order."""
    from app.core.settings import ApiSettings
    from app.main import create_app

    with TemporaryDirectory() as directory:
        app = create_app(ApiSettings(data_dir=Path(directory)))
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False)
