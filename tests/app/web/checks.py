"""`python -m tests.app.web.checks`, a part of `make check`: the types, the style and the format of the page's code.

The types of what the service answers are made from its OpenAPI document.
"""

import sys
from pathlib import Path

from tests.clients.npm import MODULES, tool

ROOT = Path(__file__).parents[3]
WEB = ROOT / "app/web"
#: Where `app/web/tsconfig.json` looks for them.
TYPES = MODULES / ".openapi/api.d.ts"


def main() -> None:
    """End with a sentence where something is wrong."""
    TYPES.parent.mkdir(exist_ok=True)
    try:
        tool("openapi-typescript", str(ROOT / "docs/openapi.json"), "-o", str(TYPES), cwd=ROOT)
        tool("tsc", "-p", str(WEB / "tsconfig.json"), cwd=ROOT)
        tool("biome", "check", "--error-on-warnings", "static", cwd=WEB)
    except AssertionError as wrong:
        sys.exit(str(wrong))


if __name__ == "__main__":
    main()
