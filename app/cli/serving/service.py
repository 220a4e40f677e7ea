"""The whole service on this machine, as `apex up` and `apex demo` run it: a private Redis, the API and the workers."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.cli.serving.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from app.cli.serving.front_end import FrontEnd
from app.cli.weights_dir import CannotStart, require_weights
from app.core.logging import configure_logging
from app.core.misconfiguration import named_by_settings
from app.core.settings import ApiSettings, ServiceSettings, WorkerSettings, load_settings
from worker.main import PROCESS_COMMAND, processes, supervised
from worker.supervisor import Child, Supervisor

#: The process that calls out.
EGRESS_COMMAND = (sys.executable, "-m", "app.cli", "webhooks")


@contextmanager
def service(
    process_command: Sequence[str] = PROCESS_COMMAND, egress_command: Sequence[str] = EGRESS_COMMAND
) -> Iterator[tuple[Supervisor, str]]:
    """The service, not yet running, and its address. Its Redis runs until the block ends."""
    settings, api = load_settings(WorkerSettings), load_settings(ApiSettings)
    configure_logging(settings.log_level, settings.log_format)
    require_weights(settings.weights_dir)
    with named_by_settings():
        (settings.data_dir / "redis").mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FrontEnd(api) as front_end, EmbeddedRedis(settings.data_dir / "redis") as redis:
            os.environ |= {"APEX_REDIS_URL": redis.url, "APEX_PORT": str(front_end.port)}
            children = [*front_end.children(), *processes(settings, command=process_command)]
            children += egress_processes(settings, command=egress_command)
            supervisor = supervised(load_settings(WorkerSettings), children, on_poll=redis.revive)
            supervisor.stop_timeout_s, supervisor.on_stop = front_end.stop_timeout_s, front_end.close_port
            yield supervisor, f"http://{api.host}:{front_end.port}"
    except EmbeddedRedisError as error:
        raise CannotStart(str(error)) from error


def egress_processes(settings: ServiceSettings, *, command: Sequence[str] = EGRESS_COMMAND) -> list[Child]:
    """The process that calls out, where its settings allow it to call anybody."""
    return [Child(name="webhooks", command=command)] if settings.calls_out else []
