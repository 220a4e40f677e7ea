"""`/problems`: a page for people about each kind of problem, from the same table as the problems. Open to all."""

import re
from html import escape
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from app.api.openapi.components import headers, problems
from app.core.problems import PROBLEMS, Problem, ProblemKind

BY_SLUG = {kind.slug: kind for kind in PROBLEMS.values()}

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}}
dt{{font-weight:600}}dd{{margin:0 0 .5rem}}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""

router = APIRouter(prefix="/problems", tags=["problems"], default_response_class=HTMLResponse)


@router.get("", response_description="A page.", responses={200: {"headers": headers()}, **problems()})
async def list_problems() -> str:
    """List every kind of problem as a page for people."""
    rows = "\n".join(
        f'<li><a href="{kind.type}">{kind.code}</a> ({kind.status}): {escape(kind.title)}</li>'
        for kind in PROBLEMS.values()
    )
    return PAGE.format(title="Problems", body=f"<ul>\n{rows}\n</ul>")


@router.get("/{slug}", response_description="A page.", responses={200: {"headers": headers()}, **problems("not_found")})
async def get_problem(
    slug: Annotated[str, Path(description="Last step of a problem's `type`.", examples=["payload-too-large"])],
) -> str:
    """Explain one kind of problem as a page for people."""
    kind = BY_SLUG.get(slug)
    if kind is None:
        raise Problem("not_found", "There is no such problem.")
    return PAGE.format(title=escape(kind.title), body=explanation(kind))


def explanation(kind: ProblemKind) -> str:
    again = "Yes, the same request may work later." if kind.retryable else "No, the same request will fail again."
    rows = {"What to do": kind.remedy, "Retry?": again, "Code": f"`{kind.code}`", "Status": str(kind.status)}
    listed = "\n".join(f"<dt>{name}</dt><dd>{marked_up(text)}</dd>" for name, text in rows.items())
    return f'<p>{marked_up(kind.meaning)}</p>\n<dl>\n{listed}\n</dl>\n<p><a href="/problems">All problems</a></p>'


def marked_up(text: str) -> str:
    """Text for a page; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
