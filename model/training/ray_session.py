"""Ray, for as long as a block: a private one on this machine, or the cluster that RAY_ADDRESS names."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model.domain import ApexError
from model.processors import usable_cores

#: No usage reports, and no messages on stderr that only concern developers of Ray.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


#: How often a cluster is tried to be started or joined.
TRIES = 4


@contextmanager
def ray_session(*, n_actors: int = 1) -> Iterator[Any]:
    """The `ray` module, connected; what was started is stopped when the block ends. It has room for so many actors.

    Raises ApexError where Ray cannot be started, or the cluster not be reached.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    _connect(ray, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, **_size(n_actors))
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, **options: Any) -> None:
    """Start or join a cluster. On a busy machine Ray may give up after half a minute, and have more luck again."""
    # Without an address Ray would join any other cluster that was started on this machine.
    address = os.environ.get("RAY_ADDRESS") or "local"
    for n_left in reversed(range(TRIES)):
        try:
            ray.init(address, **options)
            return
        except Exception as error:
            ray.shutdown()
            if not n_left:
                raise ApexError(f"Ray cannot be started or reached: {' '.join(str(error).split())}") from error


def _size(n_actors: int) -> dict[str, Any]:
    return {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(2, n_actors, usable_cores())}
