"""OpenAPI 3.0: a copy of the 3.1 document for generators that know no newer one.

What 3.0 cannot say is left out. Covers the JSON Schema that this service's document uses.
"""

from typing import Any

from app.core.json_types import Json

#: Keywords that 3.0 does not know and that only narrow or decorate a schema.
_UNKNOWN = frozenset({"contentMediaType", "contentSchema", "propertyNames"})
#: Members that hold data, in which every word may occur.
_DATA = frozenset({"const", "default", "enum", "example", "examples"})
_NULL = {"type": "null"}


def downgraded(document: Json) -> Json:
    """A 3.0 document that describes the same service. The given one stays as it is."""
    return {**_node(document), "openapi": "3.0.3"}


def _node(node: Any) -> Any:
    """A part of the document, converted; what is no schema passes through, as it has none of the keywords."""
    if isinstance(node, list):
        return [_node(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    schema = {name: _member(name, value) for name, value in node.items() if name not in _UNKNOWN}
    for convert in (_nullable, _const, _tuple, _exclusive, _example, _reference):
        schema = convert(schema)
    return schema


def _member(name: str, value: Any) -> Any:
    if name in _DATA:
        return value
    if name == "properties":  # the names are the service's own and may be keywords
        return {field: _node(schema) for field, schema in value.items()}
    return _node(value)


def _nullable(schema: Json) -> Json:
    """A choice between something and null becomes `nullable`."""
    choices = schema.get("anyOf", [])
    if _NULL not in choices:
        return schema
    others = [choice for choice in choices if choice != _NULL]
    widened = _widened(others[0]) if len(others) == 1 else {"anyOf": others, "nullable": True}
    return {**widened, **_without(schema, "anyOf")}


def _widened(schema: Json) -> Json:
    """A schema that takes null, too."""
    if "$ref" in schema:  # what generators read as "this or null", although the letter of 3.0 says otherwise
        return {"allOf": [schema], "nullable": True}
    if "enum" in schema:
        schema = {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "nullable": True}


def _const(schema: Json) -> Json:
    return {**_without(schema, "const"), "enum": [schema["const"]]} if "const" in schema else schema


def _tuple(schema: Json) -> Json:
    """A tuple becomes a list of that length, whose entries are of any of the tuple's kinds."""
    if "prefixItems" not in schema:
        return schema
    kinds = [kind for i, kind in enumerate(schema["prefixItems"]) if kind not in schema["prefixItems"][:i]]
    return {**_without(schema, "prefixItems"), "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}


def _exclusive(schema: Json) -> Json:
    """An exclusive bound is a number in 3.1, and a flag beside the bound in 3.0."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            schema = {**schema, bound: schema[exclusive], exclusive: True}
    return schema


def _example(schema: Json) -> Json:
    """A schema's examples are a list, of which 3.0 takes one. Those of a media type are a mapping, and stay."""
    if not isinstance(schema.get("examples"), list):
        return schema
    return {**_without(schema, "examples"), "example": schema["examples"][0]}


def _reference(schema: Json) -> Json:
    """A reference with siblings goes into a list of one, as 3.0 ignores the siblings."""
    if "$ref" not in schema or len(schema) == 1:
        return schema
    return {"allOf": [{"$ref": schema["$ref"]}], **_without(schema, "$ref")}


def _without(schema: Json, name: str) -> Json:
    return {key: value for key, value in schema.items() if key != name}
