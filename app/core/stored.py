"""Reading what is stored in Redis with care: anything may be under a key.

What this version cannot read counts as absent where one value of many is read. It is logged once and left as it is,
because a later version may have written it. Fields that this version does not know are ignored.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, lru_cache
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from pydantic import Field, TypeAdapter, ValidationError
from redis.client import Pipeline
from redis.exceptions import ResponseError

log = logging.getLogger(__name__)

#: How Redis begins its refusal to read a key as what it is not.
WRONG_TYPE = "WRONGTYPE"
#: What is logged once is remembered for so many values.
REMEMBERED = 4096

#: A time that can be shown, in seconds since 1970: before the year 3000.
EpochSeconds = Annotated[float, Field(ge=0, le=32_503_680_000)]

T = TypeVar("T")
Arguments = ParamSpec("Arguments")


class Unreadable(ValueError):
    """What is stored under a key is damaged, or of a version to come. The text shows nothing of it."""


@lru_cache(maxsize=REMEMBERED)
def set_aside(what: str, reason: str) -> None:
    """Log once that something cannot be read or dealt with, and is left out."""
    log.error("set aside: %s: %s", what, reason)


def is_wrong_type(error: BaseException) -> bool:
    """Whether Redis refused to read a key as what it is not."""
    # What a pipeline raises begins with the command.
    return isinstance(error, ResponseError) and str(error).rpartition(" caused error: ")[2].startswith(WRONG_TYPE)


def read(command: Callable[Arguments, T], *arguments: Arguments.args, **options: Arguments.kwargs) -> T | None:
    """What a command of Redis reads from the key that is its first argument; None when that is of another type."""
    try:
        return command(*arguments, **options)
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        set_aside(str(arguments[0]), WRONG_TYPE)
        return None


def read_all(pipe: Pipeline, keys: Sequence[str]) -> list[Any]:
    """The replies of a pipeline with a command for each key; None for a key of another type."""
    replies = pipe.execute(raise_on_error=False)
    return [_unless_wrong_type(key, reply) for key, reply in zip(keys, replies, strict=True)]


def _unless_wrong_type(key: str, reply: Any) -> Any:
    if not isinstance(reply, Exception):
        return reply
    if not is_wrong_type(reply):
        raise reply
    set_aside(key, WRONG_TYPE)
    return None


def json_value(key: str, raw: bytes | str | None) -> Any:
    """The JSON value that is stored; None for one that cannot be read."""
    try:
        return None if raw is None else json.loads(raw)
    except (ValueError, RecursionError):
        set_aside(key, "no JSON")
        return None


def number(key: str, raw: bytes | str | float | None) -> float | None:
    """The finite number that is stored; None for anything else."""
    try:
        value = None if raw is None else float(raw)
    except ValueError:
        value = math.nan
    if value is None or math.isfinite(value):
        return value
    set_aside(key, "no number")
    return None


def value_of(kind: type[T], key: str, raw: bytes | str) -> T | None:
    """The data class whose fields are stored as a JSON object; None for one that cannot be read."""
    try:
        return parsed(kind, key, raw)
    except Unreadable as error:
        set_aside(key, str(error))
        return None


def record_of(kind: type[T], key: str, raw: Mapping[Any, bytes | str], names: Mapping[Any, bytes]) -> T:
    """The data class whose fields are stored as JSON in a hash. Raises `Unreadable`.

    `names` has the field of each name under which one is stored; what is stored under others is ignored.
    """
    members = (b'"%s":%s' % (names[name], _bytes(value)) for name, value in raw.items() if name in names)
    return parsed(kind, key, b"{%s}" % b",".join(members))


def field_names(kind: Any, *, stored_as: Mapping[str, str] | None = None) -> dict[bytes | str, bytes]:
    """The fields of a data class by the names under which they are stored, which Redis gives as bytes or text."""
    names = {(stored_as or {}).get(field.name, field.name): field.name.encode() for field in fields(kind)}
    return {form: field for name, field in names.items() for form in (name, name.encode())}


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def parsed(kind: type[T], key: str, raw: bytes | str) -> T:
    """The same; raises `Unreadable`."""
    try:
        return cast(T, _adapter(cast(Any, kind)).validate_json(raw, strict=True))
    except ValidationError as error:
        # Not the text of the error, which shows the values.
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise Unreadable(f"{key}: " + ", ".join(f"{_path(fault['loc'])} {fault['type']}" for fault in faults)) from None


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "all"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
