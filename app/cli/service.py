"""The whole service on this machine, as `apex up` and `apex demo` run it: a private Redis, the API and the workers."""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.cli.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from app.cli.weights_dir import CannotStart, require_weights
from app.core.logging import configure_logging
from app.core.misconfiguration import named_by_settings
from app.core.settings import ApiSettings, WorkerSettings, load_settings
from worker.main import PROCESS_COMMAND, processes, supervised
from worker.supervisor import Child, Supervisor

API_COMMAND = (sys.executable, "-m", "app.cli", "api")


@contextmanager
def service(process_command: Sequence[str] = PROCESS_COMMAND) -> Iterator[tuple[Supervisor, str]]:
    """The service, not yet running, and its address. Its Redis runs until the block ends."""
    settings, api = load_settings(WorkerSettings), load_settings(ApiSettings)
    configure_logging(settings.log_level, settings.log_format)
    require_weights(settings.weights_dir)
    port = api.port or free_port(api.host)
    with named_by_settings():
        (settings.data_dir / "redis").mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with EmbeddedRedis(settings.data_dir / "redis") as redis:
            os.environ |= {"APEX_REDIS_URL": redis.url, "APEX_PORT": str(port)}
            children = [Child(name="api", command=API_COMMAND), *processes(settings, command=process_command)]
            supervisor = supervised(load_settings(WorkerSettings), children, on_poll=redis.revive)
            supervisor.stop_timeout_s += api.lame_duck_s
            yield supervisor, f"http://{api.host}:{port}"
    except EmbeddedRedisError as error:
        raise CannotStart(str(error)) from error


def free_port(host: str) -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
