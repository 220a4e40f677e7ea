"""How much waits, and how fast it is processed."""

from typing import Literal

from pydantic import BaseModel, Field


class QueueDepth(BaseModel):
    """What waits."""

    jobs: int
    audio_seconds: float = Field(description="By estimate: a track's length is known once it is decoded.")


class Capacity(BaseModel):
    """How much waits and how fast it is worked off."""

    object: Literal["capacity"] = "capacity"
    queue: QueueDepth
    jobs_running: int
    workers_alive: int
    audio_seconds_per_second: float | None = Field(description="Of one worker, as measured. Null before the first job.")
    estimated_wait_s: float | None = Field(
        description="Until a track that is sent now would begin to run. Null while no worker runs or none was measured."
    )
