"""What a client that was made for one OpenAPI document cannot do with a service of another.

    python -m tests.app.api.openapi.compatibility docs/openapi.json > tests/app/api/openapi/releases/VERSION.json

writes what a release promised, without the texts and examples of its document.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.core.json_types import Json

TEXTS = ("description", "summary", "examples", "example", "title", "links", "tags")
#: What a value may be at most, and at least.
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
#: What readers rely on as it stands.
FORMS = ("pattern", "format", "contentMediaType")


def promises(node: Any) -> Any:
    """A document, or a part of one, without what is for people. Names of properties may be such words, too."""
    if isinstance(node, list):
        return [promises(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        name: {each: promises(schema) for each, schema in value.items()} if name == "properties" else promises(value)
        for name, value in node.items()
        if name not in TEXTS
    }


def breaks(old: Json, new: Json) -> Iterator[str]:
    """Sentences, each with what a client of the old document relies on and the new one does not promise."""
    for path, item in old["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                name = f"{method.upper()} {path}"
                found = new["paths"].get(path, {}).get(method)
                yield from Operations(name, old, new).breaks(operation, found) if found else [f"{name}: it is gone"]


@dataclass(frozen=True)
class Operations:
    """One operation in both documents."""

    name: str
    old: Json
    new: Json

    def breaks(self, old: Json, new: Json) -> Iterator[str]:
        for sentence in (
            *self._identity(old, new),
            *self._parameters(old, new),
            *self._request(old.get("requestBody"), new.get("requestBody")),
            *self._responses(old["responses"], new["responses"]),
        ):
            yield f"{self.name}: {sentence}"

    def _identity(self, old: Json, new: Json) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"operationId is {new['operationId']}, and was {old['operationId']}"
        for scheme in old.get("security", []):
            if new.get("security") and scheme not in new["security"]:
                yield f"{', '.join(scheme)} does not authenticate any more"
        if new.get("security") and not old.get("security"):
            yield "it asks for a key"

    def _parameters(self, old: Json, new: Json) -> Iterator[str]:
        taken = {(one["in"], one["name"].lower()): one for one in new.get("parameters", [])}
        sent = {(one["in"], one["name"].lower()): one for one in old.get("parameters", [])}
        for key, parameter in sent.items():
            if key not in taken:
                yield f"the parameter {parameter['name']} is gone"
                continue
            yield from self._taken(parameter["schema"], taken[key]["schema"], f"the parameter {parameter['name']}")
        for key, parameter in taken.items():
            if parameter.get("required") and not sent.get(key, {}).get("required"):
                yield f"the parameter {parameter['name']} must be given"

    def _request(self, old: Json | None, new: Json | None) -> Iterator[str]:
        if new and new.get("required") and not (old or {}).get("required"):
            yield "a body must be sent"
        for media_type, content in (old or {}).get("content", {}).items():
            if media_type not in (new or {}).get("content", {}):
                yield f"a body of {media_type} is not taken any more"
            elif new:
                yield from self._taken(content["schema"], new["content"][media_type]["schema"], "the body")

    def _responses(self, old: Json, new: Json) -> Iterator[str]:
        for status, response in old.items():
            if status not in new:
                if status < "4":
                    yield f"it never answers {status} any more"
                continue
            for name in response.get("headers", {}).keys() - new[status].get("headers", {}).keys():
                yield f"the {status} has no header {name} any more"
            for media_type, content in response.get("content", {}).items():
                given = new[status].get("content", {}).get(media_type)
                if given is None:
                    yield f"the {status} is no {media_type} any more"
                elif "schema" in content:
                    yield from self._given(content["schema"], given["schema"], f"the {status}")

    def _taken(self, old: Json, new: Json, where: str) -> Iterator[str]:
        """Why what a client of the old document sends might be refused."""
        yield from Fit(self.old, self.new, "must be given", of_answer=False).unfit(old, new, where)

    def _given(self, old: Json, new: Json, where: str) -> Iterator[str]:
        """Why a client of the old document might not understand what it is sent."""
        yield from Fit(self.new, self.old, "may be absent", of_answer=True).unfit(new, old, where)


@dataclass
class Fit:
    """Whether whatever one schema, of the sender's document, describes is valid by another, of the reader's."""

    sender: Json
    reader: Json
    absent: str
    of_answer: bool
    _compared: set[tuple[str, str]] = field(default_factory=set)

    def unfit(self, sent: Json, read: Json, where: str) -> list[str]:
        pair = (sent.get("$ref", ""), read.get("$ref", ""))
        if all(pair) and pair in self._compared:
            return []
        self._compared.add(pair)
        choices = list(variants(self.reader, read))
        found = []
        for value in variants(self.sender, sent):
            reasons = [list(self._reasons(value, choice, where)) for choice in choices if kinds_fit(value, choice)]
            found += sorted(reasons, key=len)[0] if reasons else [f"{where} may be {kind(value)}"]
        return found

    def _reasons(self, value: Json, choice: Json, where: str) -> Iterator[str]:
        yield from _limits(value, choice, where)
        yield from self._members(value, choice, where)
        for inner in ("items", "contentSchema"):
            if inner in choice:
                yield from self.unfit(value.get(inner, {}), choice[inner], f"{where}.{inner}")
        if isinstance(others := choice.get("additionalProperties"), dict):
            yield from self._others(value, choice, others, where)

    def _others(self, value: Json, choice: Json, others: Json, where: str) -> Iterator[str]:
        """Properties that the reader knows no names of."""
        for name, schema in value.get("properties", {}).items():
            if name not in choice.get("properties", {}):
                yield from self.unfit(schema, others, f"{where}.{name}")
        if isinstance(more := value.get("additionalProperties"), dict):
            yield from self.unfit(more, others, f"{where}.*")

    def _members(self, value: Json, choice: Json, where: str) -> Iterator[str]:
        sent, read = value.get("properties", {}), choice.get("properties", {})
        for name in sorted({*choice.get("required", [])} - {*value.get("required", [])}):
            yield f"{where}.{name} {self.absent}" if name in sent or not self.of_answer else f"{where}.{name} is gone"
        for name, schema in sent.items():
            if name in read:
                yield from self.unfit(schema, read[name], f"{where}.{name}")
            elif choice.get("additionalProperties") is False:
                yield f"{where}.{name} is not taken any more"
        if self.of_answer and sent:
            yield from (f"{where}.{name} is gone" for name in read.keys() - sent.keys() - {*choice.get("required", [])})


def variants(document: Json, schema: Json) -> Iterator[Json]:
    """The schemas of one type that a schema stands for."""
    if "$ref" in schema:
        target: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from variants(document, target)
    elif choices := schema.get("anyOf", schema.get("oneOf")):
        for choice in choices:
            yield from variants(document, choice)
    else:
        types = schema.get("type")
        for each in types if isinstance(types, list) else [types]:
            yield schema | {"type": each}


def kind(schema: Mapping[str, Any]) -> str:
    return str(schema["type"] or "anything")


def kinds_fit(value: Json, choice: Json) -> bool:
    return choice["type"] in (None, value["type"]) or (value["type"], choice["type"]) == ("integer", "number")


def _limits(value: Json, choice: Json, where: str) -> Iterator[str]:
    known = enumerated(choice)
    if known is not None:
        unknown = sorted(map(str, set(enumerated(value) or ["another"]) - set(known)))
        yield from (f"{where} may be {each}" for each in unknown)
    for names, worst, beyond in ((UPPER, math.inf, max), (LOWER, -math.inf, min)):
        for name in names:
            if name in choice and beyond(limit := value.get(name, worst), choice[name]) != choice[name]:
                yield f"{where} has {name} {choice[name]} here and {limit} there"
    for name in FORMS:
        if name in choice and value.get(name) != choice[name] and known is None and not enumerated(value):
            yield f"{where} has {name} {choice[name]} here and {value.get(name)} there"


def enumerated(schema: Json) -> Iterable[Any] | None:
    found: Iterable[Any] | None = [schema["const"]] if "const" in schema else schema.get("enum")
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(promises(json.loads(Path(sys.argv[1]).read_text())), separators=(",", ":")) + "\n")
