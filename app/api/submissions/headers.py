"""Headers of a submission: what they ask for beside the tracks. Parsed before the body is read."""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from app.api.jobs.long_poll import PreferWait
from app.core.problems import Problem

MAX_CANCEL_AFTER_S = 7 * 24 * 60 * 60
UNITS_S = {"": 1, "s": 1, "m": 60, "h": 60 * 60}

_ONCE = ("idempotency-key", "content-digest", "cancel-after")
_KEY = re.compile(r'"(?P<quoted>[\x21\x23-\x7e]{1,255})"|(?P<raw>[\x21\x23-\x7e]{1,255})')
_CANCEL_AFTER = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>[smh]?)")
_DIGEST = re.compile(r"(?:^|,)[ \t]*sha-256=:(?P<value>[A-Za-z0-9+/]{43}=):[ \t]*(?=,|$)")


@dataclass(frozen=True)
class SubmissionHeaders:
    """What a client asks for. `content_sha256` is the digest that it declares of the body, in hexadecimal."""

    idempotency_key: str | None = None
    content_sha256: str | None = None
    cancel_after_s: int | None = None
    wait_s: int = 0


IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        description="1 to 255 visible ASCII characters, in quotes or not, made anew for each track. The same key with "
        "the same track and options makes one job, however often it is sent within 24 hours.",
    ),
]
ContentDigestHeader = Annotated[
    str | None,
    Header(
        description="SHA-256 of the body as it is sent (RFC 9530): of the file itself when the body is raw, of the "
        "whole form with its boundaries when it is a form. A body that differs is refused, and a repeated request "
        "is answered without reading its body.",
    ),
]
CancelAfterHeader = Annotated[
    str | None,
    Header(
        description="The job is canceled when it is not done after this time: seconds, or a number with `s`, `m` "
        "or `h`; at most a week.",
    ),
]


# A coroutine although it awaits nothing: FastAPI would run a plain function in a thread, for each request.
async def read_submission_headers(
    request: Request,
    wait_s: PreferWait,
    idempotency_key: IdempotencyKeyHeader = None,
    content_digest: ContentDigestHeader = None,
    cancel_after: CancelAfterHeader = None,
) -> SubmissionHeaders:
    """The headers. Raises `bad_header` for one that is malformed, or given more than once."""
    for name in _ONCE:
        if len(request.headers.getlist(name)) > 1:
            raise Problem("bad_header", f"{name.title()} must be given once.")
    return SubmissionHeaders(
        idempotency_key=None if idempotency_key is None else parse_key(idempotency_key),
        content_sha256=None if content_digest is None else parse_digest(content_digest),
        cancel_after_s=None if cancel_after is None else parse_cancel_after(cancel_after),
        wait_s=wait_s,
    )


SubmissionHeadersDep = Annotated[SubmissionHeaders, Depends(read_submission_headers)]


def parse_key(value: str) -> str:
    """An idempotency key without its quotes, which do not count."""
    match = _KEY.fullmatch(value.strip())
    if not match:
        raise Problem("bad_header", "Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return match["quoted"] or match["raw"]


def parse_digest(value: str) -> str:
    """The SHA-256 of a `Content-Digest`, in hexadecimal. Other algorithms in the header are ignored."""
    match = _DIGEST.search(value)
    if not match:
        raise Problem("bad_header", "Content-Digest must hold `sha-256=:…:` with 32 bytes of base64.")
    return base64.b64decode(match["value"]).hex()


def parse_cancel_after(value: str) -> int:
    """The seconds of a `Cancel-After`."""
    match = _CANCEL_AFTER.fullmatch(value.strip())
    after_s = int(match["count"]) * UNITS_S[match["unit"]] if match else 0
    if not 1 <= after_s <= MAX_CANCEL_AFTER_S:
        raise Problem("bad_header", f"Cancel-After must be like 90, 90s, 10m or 1h; at most {MAX_CANCEL_AFTER_S} s.")
    return after_s


def check_digest(declared: str | None, sha256: str) -> None:
    """Raise `digest_mismatch` when a digest was declared and this is another."""
    if declared not in (None, sha256):
        raise Problem("digest_mismatch")


class HashingRequest:
    """A request whose body is hashed as it is received, if its digest was declared: `check()` after the last byte."""

    def __init__(self, request: Request, declared_sha256: str | None) -> None:
        self._declared = declared_sha256
        self._digest = hashlib.sha256()
        self._receive = request.receive
        self.request = request if declared_sha256 is None else Request(request.scope, self._receive_and_hash)

    def check(self) -> None:
        """Raise `digest_mismatch` unless the body is what was declared."""
        if self._declared is not None:
            check_digest(self._declared, self._digest.hexdigest())

    async def _receive_and_hash(self) -> dict[str, object]:
        message = await self._receive()
        self._digest.update(message.get("body", b""))
        return dict(message)
