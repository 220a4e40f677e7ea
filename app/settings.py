"""Settings of the service: one typed object per kind of process, read from `APEX_*`, refused when wrong.

The text under a field is its documentation; the README's table is made from it.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.domain import AudioLimits

MIB = 1024 * 1024
DAY_S = 24 * 60 * 60


class ServiceSettings(BaseSettings):
    """What the HTTP front end and the worker must agree on."""

    model_config = SettingsConfigDict(
        env_prefix="APEX_", extra="ignore", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis that holds job records and the queue; `unix://` works too. It should run with AOF on."""

    data_dir: Path = Path("apex-data")
    """Folder for uploaded audio, on a disk that the API and every worker share."""

    queue_name: str = Field("scores", pattern=r"^[a-z0-9-]{1,32}$")
    """RQ queue that carries job ids."""

    result_ttl_s: int = Field(7 * DAY_S, ge=60)
    """How long a finished job can be read."""

    min_duration_s: float = Field(1.0, gt=0)
    """Shorter tracks are refused."""

    max_duration_s: float = Field(900.0, gt=0)
    """Longer tracks are refused, counted in decoded samples."""

    max_attempts: int = Field(3, ge=1, le=10)
    """Runs of one job before it fails as `worker_lost`."""

    job_timeout_s: int = Field(1800, ge=10)
    """A run that takes longer than this fails as `timed_out`."""

    log_level: str = Field("INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe message that is logged."""

    @property
    def audio_dir(self) -> Path:
        return self.data_dir / "audio"

    @property
    def audio_limits(self) -> AudioLimits:
        return AudioLimits(min_duration_s=self.min_duration_s, max_duration_s=self.max_duration_s)


class ApiSettings(ServiceSettings):
    """What only the HTTP front end needs."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs API keys."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    api_keys_file: Path | None = None
    """File with one `name sha256-of-key` a line. Without it the API is open."""

    allow_unauthenticated: bool = False
    """Serve without API keys on an address that others can reach."""

    max_upload_bytes: int = Field(100 * MIB, ge=1024)
    """Largest audio file accepted."""

    upload_idle_timeout_s: float = Field(10.0, gt=0)
    """An upload that sends nothing for this long is dropped."""

    upload_timeout_s: float = Field(600.0, gt=0)
    """An upload that takes longer than this is dropped."""

    @model_validator(mode="after")
    def refuse_open_door(self) -> Self:
        if self.api_keys_file is None and not self.allow_unauthenticated and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached by others and no API keys are set: "
                "set APEX_API_KEYS_FILE, or APEX_ALLOW_UNAUTHENTICATED=true if that is meant"
            )
        return self


class WorkerSettings(ServiceSettings):
    """What only the worker needs."""

    weights_dir: Path = Path("weights")
    """Directory with `mert/`, `apex/` and `manifest.json`; see `apex weights`."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the model runs: `cpu`, `cuda`, `cuda:1`; `auto` takes CUDA when it is there."""

    workers: int = Field(1, ge=1, le=64)
    """Scoring processes to supervise on this machine."""

    batch_segments: int = Field(1, ge=1, le=64)
    """Segments of 30 s in one forward pass. On a CPU more than one gains little and costs memory."""

    heartbeat_ttl_s: int = Field(12, ge=3)
    """A worker silent for this long is taken for dead and its job runs again."""

    decode_timeout_s: float = Field(60.0, gt=0)
    """Wall-clock limit for decoding one track."""

    decode_memory_bytes: int = Field(1024 * MIB, ge=256 * MIB)
    """Address space of the decoding child."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
