"""Settings of the service: one typed object per kind of process, read from `APEX_*`, refused when wrong.

The text under a field is its documentation; the README's table is made from it.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.core.callers import Limits
from app.core.egress_rules import EgressRules, Network
from app.core.jobs.backlog import BacklogLimits
from app.core.misconfiguration import Misconfigured
from app.core.redis.keys import RedisKeys
from app.core.redis.url import BadRedisUrl, RedisUrl
from app.core.storage.location import FOLDER, Location, parse_location
from model.domain import AudioLimits

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY_S = 24 * 60 * 60
#: What the keys of a service began with before there were namespaces.
DEFAULT_NAMESPACE = "apex"
#: Choose by what this machine has.
AUTO: Final = "auto"
#: Settings that say how the model is run.
ENGINE_OPTIONS = {"device", "engine", "precision", "compiled", "cache_dir", "batch_segments"}

#: What a browser sends as `Origin`: no path, no slash at the end.
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\[\]:-]+$")]

#: A key of metadata by which jobs are indexed.
IndexedKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]

#: The name of a host, without a port.
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]+$", to_lower=True)]


def _usable_url(given: str) -> str:
    try:
        RedisUrl.parse(given)
    except BadRedisUrl as error:
        raise PydanticCustomError("redis_url", "{reason}", {"reason": str(error)}) from None
    return given


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


#: The name of a host to call; `*.` before it stands for every name below it, and `*` alone for every host.
HostPattern = Annotated[str, StringConstraints(pattern=r"^(\*|(\*\.)?[A-Za-z0-9._-]+|[0-9A-Fa-f:]+)$", to_lower=True)]

#: A port of TCP.
Port = Annotated[int, Field(ge=1, le=65535)]

#: A URL that `RedisUrl` can read.
RedisUrlText = Annotated[str, AfterValidator(_usable_url)]


class ServiceSettings(BaseSettings):
    """What the HTTP front end and the worker must agree on."""

    model_config = SettingsConfigDict(
        env_prefix="APEX_",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        hide_input_in_errors=True,  # a password may be part of it
    )

    redis_url: RedisUrlText = Field("redis://127.0.0.1:6379/0", repr=False)
    """Redis that holds job records and the queue: `redis://`, `rediss://` with TLS, `unix://`, or `redis+sentinel://`;
    see [Redis](docs/operations.md#redis). It should run with AOF on."""

    redis_min_replicas: int = Field(0, ge=0, le=10)
    """Replicas of Redis that must have a job before it counts as accepted, so that it survives the loss of the master;
    see [Replicas](docs/operations.md#replicas)."""

    data_dir: Path = Path("apex-data")
    """Folder for uploaded audio, on a disk that the API and every worker share."""

    storage_url: str = ""
    """Where uploaded audio is kept: a folder, such as `file:///srv/audio`, or an object store, as `s3://bucket/prefix`,
    `gs://bucket/prefix` or `az://container/prefix`. Default is the folder `audio` in `APEX_DATA_DIR`."""

    storage_timeout_s: float = Field(60.0, ge=1)
    """How long a request to an object store is tried before the store counts as away."""

    namespace: str = Field(DEFAULT_NAMESPACE, pattern=r"^[a-z][a-z0-9-]{2,31}$")
    """What the names of this service's keys, queue, channels and audio begin with: 3 to 32 lower-case letters, digits
    and hyphens. Services that share a Redis or a data folder need one each."""

    queue_name: str = Field("scores", pattern=r"^[a-z0-9-]{1,32}$")
    """RQ queue that carries job ids."""

    result_ttl_s: int = Field(7 * DAY_S, ge=60)
    """How long a finished job can be read."""

    min_duration_s: float = Field(1.0, gt=0)
    """Shorter tracks are refused."""

    max_duration_s: float = Field(900.0, gt=0)
    """Longer tracks are refused, counted in decoded samples."""

    max_queued_audio_s: float = Field(DAY_S, gt=0)
    """No more tracks are taken while more seconds of audio than this wait, by estimate."""

    tenant_queue_share: float = Field(0.5, gt=0, le=1)
    """Share of these seconds that one tenant's tracks may take while nobody else waits, on a service with API keys.
    While others wait it is less, so that there is always room for one more; 1 is no limit."""

    max_upload_bytes: int = Field(100 * MIB, ge=1024)
    """Largest audio file accepted."""

    upload_idle_timeout_s: float = Field(10.0, gt=0)
    """An upload that sends nothing for this long is dropped."""

    upload_timeout_s: float = Field(600.0, gt=0)
    """An upload that takes longer than this is dropped."""

    audio_url_hosts: Annotated[tuple[HostPattern, ...], NoDecode] = ()
    """Hosts from which tracks may be fetched whose URL a client sends, such as `cdn.example.com,*.example.net`; `*` is
    every host of the Internet. None unless some are named; see [Audio by URL](docs/operations.md#audio-by-url)."""

    max_fetches: int = Field(8, ge=1, le=256)
    """Tracks that are fetched at a time, by all processes that do."""

    max_queued_urls: int = Field(50_000, ge=1)
    """No more tracks are taken by their URL while as many wait to be fetched."""

    max_attempts: int = Field(3, ge=1, le=10)
    """Runs of one job before it fails as `worker_lost`."""

    job_timeout_s: int = Field(1800, ge=10)
    """A run that takes longer than this fails as `timed_out`."""

    stop_grace_s: float = Field(30.0, ge=1, le=3600)
    """How long a stop may take: what has not ended by then is killed. Uploads must end 5 s earlier, or a sixth of the
    time earlier where that is less. A run must end 10 s earlier, or a third; else its job is given back."""

    webhook_hosts: Annotated[tuple[HostPattern, ...], NoDecode] = ()
    """Hosts that webhooks may go to, such as `hooks.example.com,*.example.net`; `*` is every host of the Internet. None
    unless some are named; see [Webhooks](docs/operations.md#webhooks)."""

    egress_ports: Annotated[tuple[Port, ...], NoDecode] = (443,)
    """Ports of other services that this one may call; several with commas. See [Egress](docs/security.md#egress)."""

    egress_networks: Annotated[tuple[Network, ...], NoDecode] = ()
    """Networks beside the Internet that this service may call, such as `10.20.0.0/16`; several with commas. This
    machine itself is `127.0.0.0/8,::1/128`."""

    egress_ca_file: Path | None = None
    """Certificates of authorities that are trusted beside the public ones when this service calls another."""

    root_path: str = Field("", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    """What the paths of the service begin with for its clients, such as `/apex`, when a proxy serves it under a path.
    The proxy may pass that beginning on or take it off."""

    log_level: str = Field("INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe message that is logged."""

    log_format: str = Field("auto", pattern=r"^(auto|json|text)$")
    """Log lines as JSON objects (`json`) or for people (`text`); `auto` is text on a terminal and JSON elsewhere."""

    @model_validator(mode="after")
    def require_some_duration(self) -> Self:
        if self.min_duration_s > self.max_duration_s:
            raise ValueError("APEX_MIN_DURATION_S is more than APEX_MAX_DURATION_S: every track would be refused")
        return self

    @field_validator("storage_url")
    @classmethod
    def check_storage_url(cls, value: str) -> str:
        if value:
            parse_location(value)
        return value

    @field_validator("webhook_hosts", "audio_url_hosts", "egress_ports", "egress_networks", mode="before")
    @classmethod
    def split_egress(cls, value: object) -> object:
        return _split(value)

    def egress_rules(self, hosts: tuple[str, ...]) -> EgressRules:
        """What may be called for a purpose that has these hosts."""
        return EgressRules(hosts, frozenset(self.egress_ports), self.egress_networks)

    @property
    def calls_out(self) -> bool:
        """Whether this service calls others at all."""
        return bool(self.webhook_hosts or self.audio_url_hosts)

    @property
    def webhook_rules(self) -> EgressRules:
        """Where webhooks may go."""
        return self.egress_rules(self.webhook_hosts)

    @property
    def backlog_limits(self) -> BacklogLimits:
        """How much audio may wait, while the service has API keys."""
        return BacklogLimits(self.max_queued_audio_s, self.tenant_queue_share)

    @property
    def audio_url_rules(self) -> EgressRules:
        """From where tracks may be fetched."""
        return self.egress_rules(self.audio_url_hosts)

    @property
    def redis_keys(self) -> RedisKeys:
        return RedisKeys(self.namespace)

    @property
    def rq_queue_name(self) -> str:
        """The queue's name for RQ, whose keys do not begin with the namespace."""
        return self.queue_name if self._has_old_names else f"{self.namespace}.{self.queue_name}"

    @property
    def namespace_dir(self) -> Path:
        """What the namespace keeps in the data folder beside scratch files and a private Redis."""
        return self.data_dir if self._has_old_names else self.data_dir / "namespaces" / self.namespace

    @property
    def drain_timeout_s(self) -> float:
        """How long requests may go on after a stop was asked for."""
        return self.stop_grace_s - min(5.0, self.stop_grace_s / 6)

    @property
    def run_grace_s(self) -> float:
        """How long a run may go on after a stop was asked for. One more segment fits before its process is killed."""
        return self.stop_grace_s - min(10.0, self.stop_grace_s / 3)

    @property
    def storage_location(self) -> Location:
        """Where this namespace keeps uploaded audio."""
        if not self.storage_url:
            return Location(FOLDER, "", str(self.audio_dir))
        location = parse_location(self.storage_url)
        if location.folder is None:
            return location.below(self.namespace)
        return location if self._has_old_names else location.below("namespaces", self.namespace)

    @property
    def audio_dir(self) -> Path:
        """The folder of uploaded audio, as long as no URL names another place."""
        return self.namespace_dir / "audio"

    @property
    def scratch_dir(self) -> Path:
        return self.data_dir / "scratch"

    @property
    def audio_limits(self) -> AudioLimits:
        return AudioLimits(min_duration_s=self.min_duration_s, max_duration_s=self.max_duration_s)

    @property
    def _has_old_names(self) -> bool:
        """Names outside the service's own keys are older than namespaces, so the default one has none in them."""
        return self.namespace == DEFAULT_NAMESPACE


class ApiSettings(ServiceSettings):
    """What only the HTTP front end needs."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs API keys."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    api_processes: int = Field(1, ge=1, le=64)
    """Processes of the HTTP front end behind the one port. Limits of connections and listeners are of each."""

    page: bool = True
    """Serve the page for people at `/`, and the one for operators at `/ops`."""

    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = ()
    """Origins whose pages may call the service from a browser, such as `https://app.example`; several with commas."""

    api_keys_file: Path | None = None
    """File with one `tenant sha256-of-key [scopes]` a line, beside the keys that `apex keys` makes."""

    require_api_keys: bool = False
    """Ask for a key even while there is none, so that an address that others can reach is never open."""

    allow_unauthenticated: bool = False
    """Serve without API keys on an address that others can reach."""

    allowed_hosts: Annotated[tuple[Host, ...], NoDecode] = ()
    """Names, such as `apex.example`, by which the service may be called without an API key beside `localhost` and other
    loopback addresses; several with commas. Any with `APEX_ALLOW_UNAUTHENTICATED`, as long as none is named."""

    key_requests_per_minute: int = Field(1200, ge=1)
    """Requests that one API key may send in a minute, unless the key has its own limit."""

    key_jobs_in_flight: int = Field(200, ge=1)
    """Jobs of a key's tenant that may be unfinished at a time, unless the key has its own limit."""

    key_bytes_per_day: int = Field(50 * GIB, ge=1)
    """Bytes that one API key may upload in a day, unless the key has its own limit."""

    indexed_metadata: Annotated[tuple[IndexedKey, ...], NoDecode] = Field((), max_length=8)
    """Keys of `metadata` by which jobs can be found, such as `album,label`: at most eight. A job is found by a key that
    was named here when the job was made."""

    max_wait_s: int = Field(30, ge=0, le=300)
    """Longest time that a request is held open for `Prefer: wait`; less than what proxies allow."""

    lame_duck_s: float = Field(0.0, ge=0, le=3600)
    """After SIGTERM the front end says at `/readyz` that it is not ready, and takes requests for so long before it
    closes its port: as long as a load balancer needs to notice. Comes on top of `APEX_STOP_GRACE_S`."""

    max_connections: int = Field(2000, ge=1)
    """Connections of one process; for one more, the one that waits longest for its client is closed. Fewer where the
    limit of open files is lower."""

    max_listeners: int = Field(1000, ge=1)
    """Requests of one process that may wait for jobs or stream their events at a time."""

    max_listeners_per_tenant: int = Field(200, ge=1)
    """How many of them may be of one tenant; those of a service without keys are not limited any further."""

    @field_validator("cors_origins", "allowed_hosts", "indexed_metadata", mode="before")
    @classmethod
    def split_names(cls, value: object) -> object:
        return _split(value)

    @model_validator(mode="after")
    def require_auth_on_public_host(self) -> Self:
        guarded = self.api_keys_file is not None or self.require_api_keys or self.allow_unauthenticated
        if not guarded and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached by others and no API keys are set: "
                "set APEX_REQUIRE_API_KEYS=true and make keys with 'apex keys create', or set APEX_API_KEYS_FILE, "
                "or APEX_ALLOW_UNAUTHENTICATED=true if that is meant"
            )
        return self

    @property
    def trusts_this_machine(self) -> bool:
        """Whether callers without a key are let in, if at all, because only this machine can reach the service."""
        return is_loopback(self.host) and not self.allow_unauthenticated

    @property
    def key_limits(self) -> Limits:
        """What a key may use that has no limits of its own."""
        return Limits(self.key_requests_per_minute, self.key_jobs_in_flight, self.key_bytes_per_day)


class WorkerSettings(ServiceSettings):
    """What only the worker needs."""

    weights_dir: Path = Path("weights")
    """Directory with `mert/`, `apex/` and `manifest.json`; see `apex weights`."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the model runs: `cpu`, `cuda`, `cuda:1`; `auto` takes CUDA when it is there."""

    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = AUTO
    """Scoring processes to supervise on this machine. `auto` is one on a CPU, which uses all cores; with CUDA one for
    each core, because each decodes on one, as far as 6 GiB for each fit on the devices."""

    engine: str = Field("auto", pattern=r"^(auto|torch|openvino)$")
    """What runs the encoder: `torch`, or `openvino` on a CPU; `auto` takes the quicker one that is installed."""

    precision: str = Field("auto", pattern=r"^(auto|fp32|tf32|bf16|fp16)$")
    """What the encoder computes in. `auto` is `fp32` on a CPU, and on CUDA the first of `fp16`, `tf32` and `fp32` that
    passes: another than `fp32` is used only if a probe at the start shows that no score moves by more than 0.2 (of 0 to
    100) or 0.01 (of 1 to 5)."""

    compiled: bool = False
    """Compile the encoder for CUDA, once per batch size and start. Takes minutes."""

    cache_dir: Path | None = None
    """Folder for compiled encoders, this user's alone. Default `~/.cache/apex/engines`."""

    batch_segments: int = Field(0, ge=0, le=64)
    """Segments of 30 s in one forward pass; 0 takes 8 on CUDA and 1 on a CPU, where more would gain little."""

    heartbeat_ttl_s: int = Field(12, ge=3)
    """A worker silent for this long is taken for dead and its job runs again."""

    stall_timeout_s: float = Field(120.0, gt=0)
    """A worker whose model has not finished a batch for this long ends itself and is restarted."""

    decode_timeout_s: float = Field(60.0, gt=0)
    """Wall-clock limit for decoding one track."""

    decode_memory_bytes: int = Field(1024 * MIB, ge=256 * MIB)
    """Address space of the decoding child."""

    @property
    def engine_options(self) -> dict[str, Any]:
        """How the model is to be run: arguments of `model.inference.scorer.Scorer.load`."""
        return self.model_dump(include=ENGINE_OPTIONS)


Settings = TypeVar("Settings", bound=ServiceSettings)


def load_settings(kind: type[Settings]) -> Settings:
    """The settings of this process, from flags and environment. Raises `Misconfigured` where one is wrong."""
    try:
        return kind()
    except ValidationError as error:
        raise Misconfigured("; ".join(_sentence(wrong["loc"], wrong["msg"]) for wrong in error.errors())) from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    name, message = "".join(f"APEX_{part}: ".upper() for part in location[:1]), message.removeprefix("Value error, ")
    return name + message


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
