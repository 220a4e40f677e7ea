"""Pages for people: the templates in `templates/`, with every value escaped."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def code(text: str) -> Markup:
    """Text as HTML; what stands between backticks becomes `<code>`."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped just before


TEMPLATES = Environment(
    loader=PackageLoader("app.api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters["code"] = code


def render(template: str, **values: object) -> str:
    """The page that a template makes of these values."""
    return TEMPLATES.get_template(template).render(values)
