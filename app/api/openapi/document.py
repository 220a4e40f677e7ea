"""The OpenAPI document as it is served: the one that FastAPI generates, completed with what concerns all routes."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from app.api import deprecations
from app.api.openapi import examples
from app.api.openapi.components import DEPRECATION_HEADERS, HEADERS, REQUESTS, headers, problems
from app.api.openapi.downgrade import downgrade
from app.core.json_types import Json

CONTACT = {"name": "Those who run this service"}
LICENCE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
TAGS = [
    {"name": "scoring", "description": "Send tracks and read what became of them."},
    {"name": "webhooks", "description": "Be told how jobs end, and look at what was told."},
    {"name": "operations", "description": "For those who run the service."},
    {"name": "problems", "description": "Pages for people about each kind of error. Open to all."},
]
PARAMETERS: Mapping[str, Json] = {
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Names the request in the server's logs, and comes back. At most 128 visible ASCII characters.",
        "schema": {"type": "string"},
    },
    "traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "The sender's place in a distributed trace (W3C Trace Context, version 00). Its trace id is in "
        "every line that the API and the worker log about the request; one that cannot be read is ignored.",
        "schema": {"type": "string"},
    },
}

#: Links from a response: where the id is in its body, and the operations that take this id.
LINKS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "score_track": ("/id", ("get_job", "stream_events", "cancel_job", "delete_job")),
    "score_raw": ("/id", ("get_job", "stream_events", "cancel_job", "delete_job")),
    **dict.fromkeys(("create_batch", "create_batch_from_urls", "create_batch_from_lines"), ("/id", ("get_batch",))),
}

#: Examples of responses, by their schema.
EXAMPLES: Mapping[str, Json] = {"Job": examples.JOBS}

#: The two headers that an API key may be sent in. FastAPI knows the first.
SCHEMES: Mapping[str, Json] = {
    "bearer": {"type": "http", "description": "An API key.", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "description": "An API key.", "in": "header", "name": "X-API-Key"},
}

#: Schemas of FastAPI's own 422 response, which this service never sends.
FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")
LIMITS = ("RateLimit", "RateLimit-Policy")


def servers(root_path: str) -> list[Json]:
    """The one that serves the document, without its host: it may be reached by several."""
    return [{"url": root_path or "/", "description": "This server."}]


def install(app: FastAPI) -> None:
    """Serve the completed document, and a copy of it for generators that know only OpenAPI 3.0.

    Each is written once. FastAPI would write its own for each request, which anybody may send.
    """
    generated = app.openapi
    document = cache(lambda: complete(generated()))
    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    texts = {"/openapi.json": cache(lambda: text(document())), "/openapi-3.0.json": cache(lambda: text_30(document()))}
    for path, written in texts.items():
        app.add_api_route(path, partial(serve, written), include_in_schema=False)


async def serve(written: Callable[[], bytes]) -> Response:
    return Response(written(), media_type="application/json")


def text(document: Json) -> bytes:
    """A document as JSON."""
    return bytes(JSONResponse(document).body)


def text_30(document: Json) -> bytes:
    """The same in OpenAPI 3.0."""
    return text(downgrade(document))


def complete(document: Json) -> Json:
    """Complete the document that FastAPI generated, in place."""
    components = document["components"]
    components["headers"] = {**HEADERS, **(DEPRECATION_HEADERS if deprecations.DEPRECATIONS else {})}
    components["parameters"] = dict(PARAMETERS)
    components["securitySchemes"] = dict(SCHEMES)
    schemas = components["schemas"] | REQUESTS
    components["schemas"] = {name: schema for name, schema in schemas.items() if name not in FRAMEWORK_SCHEMAS}
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete_operation(operation, path)
        item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS]
    _move_webhooks(document)
    return document


def _move_webhooks(document: Json) -> None:
    """Have webhooks refer to their descriptions: of those in place openapi-generator makes Python with errors."""
    items = document["webhooks"]
    for item in items.values():
        for operation in item.values():
            _drop_frameworks_responses(operation)
            operation["security"] = []  # the signature is in the headers, of a kind that no scheme names
    document["components"]["pathItems"] = items
    document["webhooks"] = {name: {"$ref": f"#/components/pathItems/{name}"} for name in items}


def _complete_operation(operation: Json, path: str) -> None:
    _drop_frameworks_responses(operation)
    if operation.setdefault("security", []):
        operation["security"] = [{name: []} for name in SCHEMES]
        _add_common_refusals(operation)
    for parameter in operation.get("parameters", []):
        _correct_parameter(parameter)
    for content in _contents(operation):
        if "$ref" in content["schema"]:
            content["schema"].pop("type", None)  # FastAPI declares every stream as text
        _add_examples(content, path)
    _add_links(operation)
    _add_deprecation(operation)


def _drop_frameworks_responses(operation: Json) -> None:
    operation["responses"] = {
        status: response for status, response in operation["responses"].items() if not _is_from_fastapi(response)
    }


def _is_from_fastapi(response: Json) -> bool:
    return any(_schema_name(content) in FRAMEWORK_SCHEMAS for content in response.get("content", {}).values())


def _add_common_refusals(operation: Json) -> None:
    """Document on an operation that takes an API key what `RequireScope` refuses, and the limits of keys."""
    responses = operation["responses"]
    responses.setdefault("422", problems("validation_error")[422])
    responses.setdefault("429", problems("quota_exceeded")[429])
    operation["responses"] = dict(sorted(responses.items()))
    for status, response in operation["responses"].items():
        if status != "401":
            response["headers"] = response["headers"] | headers(*LIMITS)


def _correct_parameter(parameter: Json) -> None:
    """Drop null, which no header or query can be, and write header names as HTTP does."""
    choices = [choice for choice in parameter["schema"].pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        parameter["schema"] = choices[0] | parameter["schema"]
    elif choices:
        parameter["schema"]["anyOf"] = choices
    parameter["schema"].pop("minLength", None)  # an empty one counts as absent
    if parameter["in"] == "header":
        parameter["name"] = "-".join(word.capitalize() for word in parameter["name"].split("-"))


def _add_links(operation: Json) -> None:
    pointer, targets = LINKS.get(operation["operationId"], ("", ()))
    linked = {name: {"operationId": name, "parameters": {"id": f"$response.body#{pointer}"}} for name in targets}
    for status, response in operation["responses"].items():
        if linked and status.startswith("2"):
            response["links"] = linked


def _add_deprecation(operation: Json) -> None:
    if operation["operationId"] in deprecations.DEPRECATIONS:
        operation["deprecated"] = True
        for response in operation["responses"].values():
            response["headers"] = response["headers"] | headers(*DEPRECATION_HEADERS)


def _contents(operation: Json) -> Iterator[Json]:
    for response in operation["responses"].values():
        yield from response.get("content", {}).values()


def _add_examples(content: Json, path: str) -> None:
    name = _schema_name(content)
    if name in EXAMPLES:
        content["examples"] = EXAMPLES[name]
    if name == "Problem":
        for example in content["examples"].values():
            example["value"]["instance"] = path.replace("{id}", examples.JOB_ID)


def _schema_name(content: Json) -> str:
    reference: str = content.get("schema", {}).get("$ref", "")
    return reference.rpartition("/")[2]
