"""Parts of the OpenAPI document that FastAPI cannot generate from the routes: headers, problems, streamed bodies."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from app.api.openapi import examples
from app.api.schemas.comparison import CompareRequest
from app.api.schemas.options import BatchOptions, TrackOptions, UrlBatch, UrlItem, UrlTrack
from app.api.schemas.webhook import WebhookTest
from app.api.uploads.multipart import BATCH_FORM
from app.core.json_types import Json
from app.core.problems import MEDIA_TYPE, PROBLEMS, ProblemKind, problem_object
from app.core.settings import MIB

_TEXT = {"type": "string"}
HEADERS: Mapping[str, Json] = {
    "X-Request-Id": {
        "description": "Names the request in the server's logs; the client's own when it sent one.",
        "required": True,
        "schema": _TEXT,
    },
    "traceparent": {
        "description": "The service's own place in the trace that the request named; absent when it named none.",
        "schema": _TEXT,
    },
    "Retry-After": {"description": "Seconds to wait before the next try or look.", "schema": {"type": "integer"}},
    "Location": {"description": "Path of the job.", "required": True, "schema": _TEXT},
    "ETag": {"description": "Changes when anything in the body does; send it as `If-None-Match`.", "schema": _TEXT},
    "X-Accel-Buffering": {"description": "`no`: a proxy must pass events on at once.", "schema": _TEXT},
    "Preference-Applied": {"description": "`wait=N`, when the end of the job was waited for.", "schema": _TEXT},
    "Idempotent-Replayed": {
        "description": "`true` on the stored answer to an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "RateLimit-Policy": {
        "description": "The key's limits: `burst` in requests, `inflight` in unfinished jobs of its tenant, `bytes` in "
        "uploaded bytes. Absent on a service without keys.",
        "schema": _TEXT,
    },
    "RateLimit": {
        "description": "What is left of each limit (`r`), and in how many seconds all of it will be left again (`t`).",
        "schema": _TEXT,
    },
    "Cache-Control": {"description": "`no-store` on what will change, and on errors.", "schema": _TEXT},
    "Accept-Encoding": {
        "description": "`identity`, when the body's encoding was refused.",
        "schema": _TEXT,
    },
    "WWW-Authenticate": {"description": "How to authenticate.", "required": True, "schema": _TEXT},
}
#: Headers of every response of a deprecated operation.
DEPRECATION_HEADERS: Mapping[str, Json] = {
    "Deprecation": {
        "description": "Since when the operation is deprecated, as `@` and seconds since 1970.",
        "required": True,
        "schema": _TEXT,
    },
    "Sunset": {
        "description": "Until when it is served at least, as an HTTP date.",
        "required": True,
        "schema": _TEXT,
    },
    "Link": {"description": "The path of the operation that replaces it.", "required": True, "schema": _TEXT},
}
#: Headers that any response may have.
EVERYWHERE = ("X-Request-Id", "traceparent")
_PROBLEM_HEADERS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    415: ("Accept-Encoding",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
    507: ("Retry-After",),
}
_PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
_EXTENSIONS: Mapping[str, Json] = {
    "forbidden_scope": {"required_scope": "score:write"},
    "quota_exceeded": {"violated_policies": ["burst"]},
    "idempotency_in_flight": {"job_id": examples.JOB_ID},
    "job_expired": {"expired_at": "2026-11-29T15:08:16.842Z"},
    "payload_too_large": {"limit_bytes": 100 * MIB},
    "unsupported_media_type": {"accepted": ["wav", "flac", "mp3"]},
    "validation_error": {
        "errors": [{"pointer": "#/external_id", "detail": "String should have at most 128 characters"}]
    },
    "not_ready": {"checks": {"redis": {"status": "failed", "detail": "No answer."}}},
}
#: Problems of every route, beside its own.
COMMON_PROBLEMS = ("malformed_request", "internal_error", "too_many_connections", "overloaded", "shutting_down")

_BINARY = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}

_LINES = {
    "type": "string",
    "format": "binary",
    "contentMediaType": "application/jsonl",
    "minLength": 1,
    "description": 'A track a line, each as an `UrlItem`: `{"url": "https://cdn.example.com/a.mp3"}`.',
}


def headers(*names: str) -> Json:
    """Documentation of response headers, for FastAPI's `responses`."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*EVERYWHERE, *names)}


def problems(*codes: str) -> dict[int | str, Json]:
    """Documentation of a route's errors for FastAPI's `responses`, one example for each code."""
    by_status: dict[int, list[ProblemKind]] = defaultdict(list)
    for code in (*codes, *COMMON_PROBLEMS):
        by_status[PROBLEMS[code].status].append(PROBLEMS[code])
    return {status: _responses(kinds) for status, kinds in sorted(by_status.items())}


def _responses(kinds: Iterable[ProblemKind]) -> Json:
    kinds = list(kinds)
    examples = {kind.code: {"summary": kind.title, "value": _example(kind)} for kind in kinds}
    return {
        "description": "; ".join(kind.title for kind in kinds) + ".",
        "content": {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA, "examples": examples}},
        "headers": headers("Cache-Control", *_PROBLEM_HEADERS.get(kinds[0].status, ())),
    }


def _example(kind: ProblemKind) -> Json:
    extensions = _EXTENSIONS.get(kind.code, {})
    return problem_object(kind.code, kind.meaning, instance="/score", **extensions, request_id=examples.REQUEST_ID)


def upload_operation() -> Json:
    """The request of `POST /score`, which the service reads from the stream, so that FastAPI does not know it.

    Only the form is documented. A raw body is accepted there too, but generators of clients cannot express an operation
    with two kinds of request.
    """
    content = {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/TrackForm"}}}
    return {"requestBody": {"required": True, "content": content}}


def raw_upload_operation() -> Json:
    """The request of `POST /score/raw`."""
    content = {"application/octet-stream": {"schema": _BINARY}}
    return {"parameters": _query_parameters(TrackOptions), "requestBody": {"required": True, "content": content}}


def _query_parameters(options: type[BaseModel]) -> list[Json]:
    return [_query_parameter(name, _option(name, options)) for name in options.model_fields]


def _query_parameter(name: str, option: Json) -> Json:
    # Without what its text holds: Swagger UI would ask for a file.
    schema = {word: value for word, value in option.items() if word not in ("contentMediaType", "contentSchema")}
    return {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}


def batch_operation() -> Json:
    """The request of `POST /batches`, which is read from the stream, too."""
    content = {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/BatchForm"}}}
    return {"requestBody": {"required": True, "content": content}}


def url_operation() -> Json:
    """The request of `POST /score/url`."""
    return _json_operation("UrlTrack")


def manifest_operation() -> Json:
    """The request of `POST /batches/urls`. Only the JSON object is documented: see `upload_operation`."""
    return _json_operation("UrlBatch")


def lines_operation() -> Json:
    """The request of `POST /batches/lines`."""
    content = {"application/jsonl": {"schema": _LINES}}
    return {"parameters": _query_parameters(BatchOptions), "requestBody": {"required": True, "content": content}}


def _json_operation(schema: str) -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"requestBody": {"required": True, "content": content}}


def compare_operation() -> Json:
    """The request of `POST /compare`, which is read after the caller is authenticated."""
    return _json_operation("CompareRequest")


def webhook_test_operation() -> Json:
    """The request of `POST /webhooks/test`, which is read after the caller is authenticated, too."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/WebhookTest"}}}
    return {"requestBody": {"required": True, "content": content}}


def _track_form() -> Json:
    return {
        "type": "object",
        "description": "A track and what is to be remembered about it.",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {"file": _BINARY | {"description": "The track."}, **_fields(TrackOptions)},
    }


def _batch_form() -> Json:
    files = {"type": "array", "items": _BINARY, "minItems": 1, "maxItems": BATCH_FORM.max_files}
    return {
        "type": "object",
        "description": "Tracks, and what is to be remembered about their batch.",
        "required": ["files"],
        "additionalProperties": False,
        "properties": {"files": files | {"description": "The tracks."}, **_fields(BatchOptions)},
    }


def _url_batch() -> Json:
    schema = UrlBatch.model_json_schema()
    schema["properties"]["items"]["items"] = {"$ref": "#/components/schemas/UrlItem"}
    return schema


def _fields(options: type[BaseModel]) -> dict[str, Json]:
    """Options as the fields of a form, each with an example that means absent: Swagger UI fills examples in."""
    return {name: _form_field(_option(name, options)) for name in options.model_fields}


def _form_field(option: Json) -> Json:
    """In OpenAPI a form field that holds JSON is described by its content."""
    if "contentSchema" in option:
        return {**option["contentSchema"], "description": option["description"], "examples": [{}]}
    return {**option, "examples": [False if option["type"] == "boolean" else ""]}


def _option(name: str, options: type[BaseModel]) -> Json:
    """An option as the text that a query carries. It may be empty, which counts as absent."""
    schema = options.model_json_schema(mode="validation")["properties"][name]
    text = next((choice for choice in schema.get("anyOf", [schema]) if choice.get("type") == "string"), schema)
    return {word: value for word, value in text.items() if word != "minLength"} | {"description": schema["description"]}


#: Schemas of the bodies that the service reads itself, so that FastAPI does not know them.
REQUESTS: Mapping[str, Json] = {
    "TrackForm": _track_form(),
    "BatchForm": _batch_form(),
    "CompareRequest": CompareRequest.model_json_schema(),
    "WebhookTest": WebhookTest.model_json_schema(),
    "UrlTrack": UrlTrack.model_json_schema(),
    "UrlItem": UrlItem.model_json_schema(),
    "UrlBatch": _url_batch(),
}
