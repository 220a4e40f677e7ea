"""`apex openapi`: the OpenAPI document without a server."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from app.core.settings import ApiSettings
from app.main import create_app


def document() -> str:
    """The document as text, in a stable order."""
    with TemporaryDirectory() as directory:
        app = create_app(ApiSettings(data_dir=Path(directory)))
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False)
