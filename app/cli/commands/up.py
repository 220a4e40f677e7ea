"""`apex up`: a private Redis, the API and the workers as one service on one machine."""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from app.cli.commands.settings import load_settings
from app.cli.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from app.core.logging import configure_logging
from app.core.settings import ApiSettings, WorkerSettings
from model.domain import ApexError
from worker.main import PROCESS_COMMAND, processes, supervised
from worker.supervisor import Child, Misconfigured, Supervisor

API_COMMAND = (sys.executable, "-m", "app.cli", "api")


class CannotStart(ApexError):
    """Something that the service needs is missing; the text says what to run."""


def run(*, or_stand_in: bool) -> None:
    """Serve until Ctrl-C or SIGTERM; then stop everything that was started."""
    if or_stand_in:
        from app.cli.commands.weights import ensure_weights  # brings torch, which this process can else do without

        os.environ["APEX_WEIGHTS_DIR"] = str(ensure_weights(load_settings(WorkerSettings).weights_dir))
    with service() as (supervisor, url):
        console = Console(stderr=True, soft_wrap=True)
        console.print(f"[bold]APEX[/bold] at [link]{url}[/link]   docs {url}/docs   Ctrl-C stops everything")
        try:
            supervisor.run()
        except Misconfigured as error:
            raise CannotStart(f"{error}; the log above says why") from error


@contextmanager
def service(slot_command: Sequence[str] = PROCESS_COMMAND) -> Iterator[tuple[Supervisor, str]]:
    """The service, not yet running, and its address. Its Redis runs as long as the block."""
    settings, api = load_settings(WorkerSettings), load_settings(ApiSettings)
    configure_logging(settings.log_level)
    require_weights(settings.weights_dir)
    port = api.port or free_port(api.host)
    try:
        with EmbeddedRedis(settings.data_dir / "redis") as redis:
            os.environ |= {"APEX_REDIS_URL": redis.url, "APEX_PORT": str(port)}
            children = [Child(name="api", command=API_COMMAND), *processes(settings, command=slot_command)]
            supervisor = supervised(load_settings(WorkerSettings), children, on_poll=redis.revive)
            yield supervisor, f"http://{api.host}:{port}"
    except EmbeddedRedisError as error:
        raise CannotStart(str(error)) from error


def require_weights(directory: Path) -> None:
    """Refuse to start without weights: a service that scores with made-up ones must be asked for."""
    if not (directory / "mert").is_dir():
        raise CannotStart(
            f"no weights in {directory}: run 'apex weights pull {directory}' for the published ones, "
            f"or 'apex weights stand-in {directory}' to try the service with untrained ones"
        )


def free_port(host: str) -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
