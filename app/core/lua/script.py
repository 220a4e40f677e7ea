"""Load Lua scripts from `.lua` files and run them in Redis."""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis import Redis

from app.core.redis import server

PRELUDE = "core/lua/prelude.lua"


class LuaScript:
    """A script made of `.lua` files, each named by its path below `app/`. `core/lua/prelude.lua` precedes them.

    Call it with its keys and its named arguments, which must have JSON values; one that is None is left out.
    With a `client` it runs on the connection of that one.
    """

    def __init__(self, redis: Redis, *paths: str) -> None:
        major, minor = server.MIN_VERSION
        oldest = f"local MIN_VERSION_NUM = {major << 16 | minor << 8}\n"
        self._script = redis.register_script(oldest + "".join(map(source, (PRELUDE, *paths))))

    def __call__(self, keys: Sequence[str], *, client: Redis | None = None, **arguments: Any) -> Any:
        given = {name: value for name, value in arguments.items() if value is not None}
        return self._script(keys=keys, args=[json.dumps(given, allow_nan=False)], client=client)

    @property
    def sha(self) -> str:
        """What Redis knows the script by."""
        return str(self._script.sha)


@cache
def source(path: str) -> str:
    """The text of a `.lua` file, by its path below `app/`."""
    return resources.files("app").joinpath(path).read_text(encoding="utf-8")
