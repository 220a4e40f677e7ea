"""Ray, for as long as a block: a private one on this machine, or the cluster that RAY_ADDRESS names."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model.processors import usable_cores

#: No usage reports, and no messages on stderr that only concern developers of Ray.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def ray_session(*, n_actors: int = 1) -> Iterator[Any]:
    """The `ray` module, connected; what was started is stopped when the block ends. It has room for so many actors."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, **_size(n_actors))
    try:
        yield ray
    finally:
        ray.shutdown()


def _size(n_actors: int) -> dict[str, Any]:
    return {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(2, n_actors, usable_cores())}
