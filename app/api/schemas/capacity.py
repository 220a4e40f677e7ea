"""How much waits, and how fast it is processed."""

from typing import Literal

from pydantic import BaseModel, Field


class QueueDepth(BaseModel):
    """What waits."""

    jobs: int
    audio_seconds: float = Field(description="By estimate: a track's length is known once it is decoded.")


class ModelWorkers(BaseModel):
    """The workers of one model."""

    version: str = Field(examples=["apex-1.0.0"])
    workers_alive: int
    workers_paused: int


class Capacity(BaseModel):
    """How much waits and how fast it is worked off."""

    object: Literal["capacity"] = "capacity"
    queue: QueueDepth
    jobs_running: int
    workers_alive: int
    workers_paused: int = Field(
        description="Of these: they take no job until a fault of their machine has passed, such as a full disk."
    )
    models: list[ModelWorkers] = Field(
        description="Which models the workers run: several during an upgrade. Workers of older releases are in none."
    )
    audio_seconds_per_second: float | None = Field(description="Of one worker, as measured. Null before the first job.")
    estimated_wait_s: float | None = Field(
        description="Until a track that is sent now would begin to run. Null while no worker is active or was measured."
    )
