"""Options that several commands share, and how those of the service become settings."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from app.core.callers import account_name

# Of the service and of `apex score`: each sets the setting of its name.
HostFlag = Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.")]
PortFlag = Annotated[int | None, typer.Option(help="Port to listen on. Default 8000; 0 takes a free one.")]
ProcessesFlag = Annotated[
    int | None, typer.Option("--processes", help="Processes of the front end behind the one port. Default 1.")
]
WorkersFlag = Annotated[
    str | None, typer.Option(help="Scoring processes, or auto: as many as suit this machine. Default auto.")
]
DataDirFlag = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder for audio and records. Default apex-data.")
]
WeightsDirFlag = Annotated[Path | None, typer.Option("--weights", help="Weights directory. Default weights.")]
ServiceDeviceFlag = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or auto. Default auto.")]
RedisUrlFlag = Annotated[str | None, typer.Option(help="Redis to use. Default redis://127.0.0.1:6379/0.")]
AllowUnauthenticatedFlag = Annotated[
    bool | None, typer.Option("--allow-unauthenticated", help="Serve without API keys where others can reach it.")
]


def tenant_option(help: str) -> Any:
    """The option of a tenant's name, which is refused where no tenant can have it."""
    return typer.Option("--tenant", parser=account_name, metavar="TENANT", help=help)


# Of the training commands, which read no settings.
OutFlag = Annotated[Path, typer.Option("--out", help="Folder for the results; made if it is not there.")]
DeviceFlag = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto: CUDA where there is any.")]
WeightsFlag = Annotated[Path, typer.Option("--weights", envvar="APEX_WEIGHTS_DIR", help="Weights directory.")]
SplitsArgument = Annotated[Path, typer.Argument(help="Folder with train/ and val/, as 'apex extract' writes it.")]
EpochsFlag = Annotated[int, typer.Option(min=1, help="Longest training; also the length of the cosine schedule.")]
BatchSizeFlag = Annotated[int, typer.Option(min=2, help="Rows in a batch.")]
LearningRateFlag = Annotated[float, typer.Option(help="Learning rate of AdamW.")]
PatienceFlag = Annotated[int, typer.Option(min=1, help="Epochs without a lower validation loss before it stops.")]
SeedFlag = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
ResamplesFlag = Annotated[int, typer.Option(min=10, help="Bootstrap resamples behind each 95 % interval.")]


def export(**flags: str | int | Path | None) -> None:
    """Set the settings of the same names in the environment, where child processes read them too."""
    for name, value in flags.items():
        if value is not None:
            os.environ[f"APEX_{name.upper()}"] = str(value)
