"""`python -m worker`, `apex worker`: supervise the scoring processes of one machine, and reconcile."""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from app.core.jobs.opening import open_jobs
from app.core.logging import configure_logging
from app.core.misconfiguration import ends_if_misconfigured
from app.core.redis.client import connect
from app.core.redis.server import check_at_start
from app.core.settings import ServiceSettings, WorkerSettings, load_settings
from app.core.storage.opening import open_storage
from worker import environment
from worker.reconciler import Reconciler
from worker.slots import slots
from worker.supervisor import Child, Supervisor

PROCESS_COMMAND = (sys.executable, "-m", "worker.process")
RECONCILE_EVERY_S = 3.0
NONE_ENDED: Mapping[str, bool] = MappingProxyType({})


def main(process_command: Sequence[str] = PROCESS_COMMAND) -> None:
    """Run as many scoring processes as the settings say until SIGTERM or Ctrl-C."""
    with ends_if_misconfigured():
        settings = load_settings(WorkerSettings)
        configure_logging(settings.log_level, settings.log_format)
        check_at_start(settings.redis_url)  # first: a Redis that is refused must not become the storage's
        supervisor = supervised(settings, processes(settings, command=process_command))
        supervisor.run()


def supervised(
    settings: ServiceSettings, children: Sequence[Child], *, on_poll: Callable[[], object] = lambda: None
) -> Supervisor:
    """A supervisor that reconciles every few seconds, and requeues at once the job of a child that died.

    Raises `Misconfigured` for a storage that workers cannot use.
    """
    supervisor = Supervisor(children, stop_timeout_s=settings.stop_grace_s, every_s=RECONCILE_EVERY_S, on_poll=on_poll)
    reconciling = reconciler(settings, ended=supervisor.ended)
    reconciling.deployment.require(reconciling.storage.check_readable, reconciling.storage.check_deletable)
    supervisor.on_tick = reconciling.run
    return supervisor


def processes(settings: WorkerSettings, *, command: Sequence[str] = PROCESS_COMMAND) -> list[Child]:
    """The scoring processes; each reads the same settings from the environment, but for its device."""
    devices = slots(settings)
    env = environment.for_processes(len(devices))
    return [
        Child(name=f"worker {number}", command=command, env=env | {"APEX_DEVICE": device})
        for number, device in enumerate(devices, 1)
    ]


def reconciler(settings: ServiceSettings, *, ended: Mapping[str, bool] = NONE_ENDED) -> Reconciler:
    redis = connect(settings.redis_url, max_retries=1)
    return Reconciler(
        machine=open_jobs(settings, redis),
        storage=open_storage(settings),
        max_attempts=settings.max_attempts,
        ended=ended,
    )


if __name__ == "__main__":
    main()
