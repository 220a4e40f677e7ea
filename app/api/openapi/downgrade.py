"""OpenAPI 3.0: a copy of the 3.1 document for generators that know no newer version.

What 3.0 cannot express is left out. Covers only the parts of JSON Schema that this service's document uses.
"""

import json
from typing import Any

from app.core.json_types import Json

#: Keywords that 3.0 does not know, and without which a schema still accepts all that it did.
_UNKNOWN = frozenset({"contentMediaType", "contentSchema", "propertyNames"})
#: Members that hold data: names in them are no keywords.
_DATA = frozenset({"const", "default", "enum", "example", "examples"})
_NULL = {"type": "null"}


def downgrade(document: Json) -> Json:
    """A 3.0 document that describes the same service. The argument is not changed."""
    known = {**_without(document, "webhooks"), "components": _without(document["components"], "pathItems")}
    return {**_node(_without_unused(known)), "openapi": "3.0.3"}


def _without_unused(document: Json) -> Json:
    """The document without schemas that nothing refers to, as those of webhooks, which 3.0 does not know."""
    text, components = json.dumps(document), document["components"]
    used = {name: schema for name, schema in components["schemas"].items() if f'"#/components/schemas/{name}"' in text}
    if len(used) == len(components["schemas"]):
        return document
    return _without_unused({**document, "components": {**components, "schemas": used}})


def _node(node: Any) -> Any:
    """A part of the document, converted. Parts that are not schemas have none of the keywords, and stay as they are."""
    if isinstance(node, list):
        return [_node(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    schema = {name: _member(name, value) for name, value in node.items() if name not in _UNKNOWN}
    for convert in (_nullable, _const, _exclusive, _example, _reference):
        schema = convert(schema)
    return schema


def _member(name: str, value: Any) -> Any:
    if name in _DATA:
        return value
    if name == "properties":  # its names are the service's own, and may equal keywords
        return {field: _node(schema) for field, schema in value.items()}
    return _node(value)


def _nullable(schema: Json) -> Json:
    """`anyOf` with null becomes `nullable`."""
    choices = schema.get("anyOf", [])
    if _NULL not in choices:
        return schema
    others = [choice for choice in choices if choice != _NULL]
    nullable = _with_null(others[0]) if len(others) == 1 else {"anyOf": others, "nullable": True}
    return {**nullable, **_without(schema, "anyOf")}


def _with_null(schema: Json) -> Json:
    """A schema that accepts null, too."""
    if "$ref" in schema:  # 3.0 allows `nullable` only beside a type
        return {"anyOf": [schema, {"type": "object", "nullable": True, "enum": [None]}]}
    if "enum" in schema:
        schema = {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "nullable": True}


def _const(schema: Json) -> Json:
    return {**_without(schema, "const"), "enum": [schema["const"]]} if "const" in schema else schema


def _exclusive(schema: Json) -> Json:
    """An exclusive bound is a number in 3.1, and a flag beside the bound in 3.0."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            schema = {**schema, bound: schema[exclusive], exclusive: True}
    return schema


def _example(schema: Json) -> Json:
    """Of a schema's list of examples 3.0 takes one. The examples of a media type are a mapping, and stay."""
    if not isinstance(schema.get("examples"), list):
        return schema
    return {**_without(schema, "examples"), "example": schema["examples"][0]}


def _reference(schema: Json) -> Json:
    """A reference with siblings moves into an `allOf`, because 3.0 ignores the siblings of a reference."""
    if "$ref" not in schema or len(schema) == 1:
        return schema
    return {"allOf": [{"$ref": schema["$ref"]}], **_without(schema, "$ref")}


def _without(schema: Json, name: str) -> Json:
    return {key: value for key, value in schema.items() if key != name}
