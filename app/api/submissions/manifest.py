"""`POST /batches` with a manifest: the URLs of many tracks, as one JSON object, or as JSON Lines with one a line.

Of a manifest each track has an outcome of its own, as of a form of files; the tracks are fetched later.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter, ValidationError

from app.api.errors import invalid_request
from app.api.json_body import parse, read_body
from app.api.query import refuse_query
from app.api.schemas.fields import ExternalId
from app.api.schemas.options import BatchOptions, UrlBatch, UrlItem
from app.api.submissions.batch import submit_received
from app.api.submissions.from_url import JSON_BODY, JSON_TYPE, media_type
from app.api.submissions.headers import HashingRequest
from app.api.submissions.idempotency import Claim
from app.api.submissions.submission import Submission
from app.api.uploads.multipart import BATCH_FORM, Fields
from app.api.uploads.receiver import BatchFile, BatchUpload, parse_options, query_fields
from app.core.jobs.models import MAX_BATCH_ITEMS
from app.core.problems import Problem, invalid_field

JSONL_TYPES = ("application/jsonl", "application/x-ndjson")
MANIFEST_TYPES = (JSON_TYPE, *JSONL_TYPES)
#: Far more than so many URLs need, signed ones too.
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
TIMEOUT_S = 60.0

_EXTERNAL_ID = TypeAdapter[str](ExternalId)


async def submit_manifest(submission: Submission, accepted: Sequence[str] = MANIFEST_TYPES) -> Response:
    """Create a batch, or return the response to an earlier request with the same idempotency key."""
    kind = media_type(submission.request)
    if kind not in accepted:
        raise Problem("unsupported_media_type", "URLs are sent as JSON.", accepted=list(accepted))
    return await submit_received(submission, JSON_BODY, partial(_receive, submission, kind))


@asynccontextmanager
async def _receive(submission: Submission, kind: str, _claim: Claim | None) -> AsyncIterator[BatchUpload]:
    body = HashingRequest(submission.request, submission.headers.content_sha256)
    if kind == JSON_TYPE:
        refuse_query(submission.request, "The fields of a batch of JSON are in the body.")
    fields = query_fields(submission.request, Fields(BATCH_FORM))
    content = await read_body(body.request, max_bytes=MAX_MANIFEST_BYTES, timeout_s=TIMEOUT_S)
    body.check()
    upload = await run_in_threadpool(_from_json if kind == JSON_TYPE else _from_lines, content, fields)
    yield upload


def _from_json(content: bytes, _fields: Fields) -> BatchUpload:
    batch = parse(UrlBatch, content)
    return BatchUpload(batch, [_track(item) for item in batch.items])


def _from_lines(content: bytes, fields: Fields) -> BatchUpload:
    """Options are in the query. Empty lines count for nothing."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    if not 1 <= len(lines) <= MAX_BATCH_ITEMS:
        raise invalid_field("items", f"A manifest has 1 to {MAX_BATCH_ITEMS} lines; this one has {len(lines)}.")
    return BatchUpload(parse_options(fields, BatchOptions), [_track(line) for line in lines])


def _track(given: Any) -> BatchFile:
    """An item as JSON text or as what that says."""
    validate = UrlItem.model_validate_json if isinstance(given, bytes) else UrlItem.model_validate
    try:
        item = validate(given)
        return BatchFile(None, item, item.external_id)
    except ValidationError as error:
        return BatchFile(None, invalid_request(error), _external_id(given))


def _external_id(given: Any) -> str | None:
    """The client's own name for a track that is refused, where that can be told."""
    try:
        read = json.loads(given) if isinstance(given, bytes) else given
        return _EXTERNAL_ID.validate_python(read["external_id"], strict=True)
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
