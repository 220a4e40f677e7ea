"""`apex up`: a private Redis, the API and the workers as one service on one machine."""

import os
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from app.cli.flags import (
    AllowUnauthenticatedFlag,
    DataDirFlag,
    HostFlag,
    PortFlag,
    ProcessesFlag,
    ServiceDeviceFlag,
    WeightsDirFlag,
    WorkersFlag,
    export,
)
from app.cli.weights_dir import ensure_weights


def up(
    host: HostFlag = None,
    port: PortFlag = None,
    processes: ProcessesFlag = None,
    workers: WorkersFlag = None,
    data_dir: DataDirFlag = None,
    weights: WeightsDirFlag = None,
    device: ServiceDeviceFlag = None,
    allow_unauthenticated: AllowUnauthenticatedFlag = None,
    or_stand_in: Annotated[
        bool, typer.Option("--or-stand-in", help="Without weights, fetch them, or make untrained ones.")
    ] = False,
) -> None:
    """Run everything on this machine: a private Redis, the API and the workers. Ctrl-C stops all."""
    export(host=host, port=port, workers=workers, data_dir=data_dir, weights_dir=weights, device=device)
    export(allow_unauthenticated=allow_unauthenticated, api_processes=processes)
    from app.cli.serving.service import service
    from app.core.settings import WorkerSettings, load_settings

    if or_stand_in:
        os.environ["APEX_WEIGHTS_DIR"] = str(ensure_weights(load_settings(WorkerSettings).weights_dir))
    with service() as (supervisor, url):
        address = Text(url, f"link {url}")
        said = Text.assemble(("APEX", "bold"), " at ", address, f"   docs {url}/docs   Ctrl-C stops everything")
        Console(stderr=True).print(said, soft_wrap=True)
        supervisor.run()
