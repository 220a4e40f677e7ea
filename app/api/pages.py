"""Pages for people: the templates in `templates/`, with every value escaped."""

import re

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import HTTPConnection

#: Of every page, unless it says otherwise: it loads its own style and icon, runs nothing, and stands in no frame.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


def code(text: str) -> Markup:
    """Text as HTML; what stands between backticks becomes `<code>`."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped just before


TEMPLATES = Environment(
    loader=PackageLoader("app.api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters["code"] = code


def render(template: str, *, root: str = "", **values: object) -> str:
    """The HTML that a template makes of these values; the paths of its links begin with `root`."""
    return TEMPLATES.get_template(template).render(values, root=root)


def page(request: HTTPConnection, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """The page as the response to a request."""
    return HTMLResponse(render(template, root=request.app.state.root_path, **values), status_code=status)


def wants_page(request: HTTPConnection) -> bool:
    """Whether a person's browser asks: it names HTML, and no program's media type; and it has no API key."""
    accepted = request.headers.get("accept", "")
    is_program = "json" in accepted or "authorization" in request.headers or "x-api-key" in request.headers
    return "text/html" in accepted and not is_program
