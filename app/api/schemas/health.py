"""Whether the process lives, and whether it can accept work."""

from typing import Literal

from pydantic import BaseModel, Field


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Check(BaseModel):
    """One readiness check. A warning names what is unsafe and does not make the server unready."""

    status: Literal["ok", "warning", "failed"]
    detail: str | None = Field(None, description="Only with `?verbose`, or when something is wrong.")


class Readiness(BaseModel):
    """The server can accept work."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Check]
