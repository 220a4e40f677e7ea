"""How the service as a whole is doing: its workers, its storage, and how jobs of all tenants ended lately."""

from typing import Literal

from pydantic import BaseModel, Field

from app.api.schemas.fields import Timestamp
from app.core.activity import INTERVAL_S


class WorkerStatus(BaseModel):
    """A worker that is alive. What an older release does not say of itself is null."""

    host: str | None = Field(description="The name of its machine or container.")
    model_version: str | None = Field(examples=["apex-1.0.0"])
    device: str | None = Field(examples=["cuda:0"])
    paused: bool = Field(description="It takes no job until a fault of its machine has passed, such as a full disk.")


class StorageStatus(BaseModel):
    """Where uploaded audio is kept until it is scored."""

    free_bytes: int | None = Field(description="Null where nobody counts them, as in an object store.")
    needed_bytes: int = Field(description="With less, `/readyz` says that the server is not ready.")


class ActivityInterval(BaseModel):
    """Jobs that ended in a quarter of an hour, of all tenants. Test jobs are not counted."""

    start_at: Timestamp
    succeeded: int
    failed: int
    canceled: int
    audio_seconds: float = Field(description="Audio that was scored. A track whose scores were known adds nothing.")
    mean_wait_s: float | None = Field(description="From creation to the beginning of the last run; null without any.")
    longest_wait_s: float | None
    failures: dict[str, int] = Field(description="Failed jobs by the `code` of their error.")


class Operations(BaseModel):
    """How the service as a whole is doing."""

    object: Literal["operations"] = "operations"
    workers: list[WorkerStatus]
    storage: StorageStatus
    interval_s: int = INTERVAL_S
    activity: list[ActivityInterval] = Field(description="Oldest first. The last interval is not over.")
