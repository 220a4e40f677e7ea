"""`apex api`: serve the HTTP front end with uvicorn, in one process or several."""

from typing import Annotated

import typer

from app.cli.flags import (
    AllowUnauthenticatedFlag,
    DataDirFlag,
    HostFlag,
    PortFlag,
    ProcessesFlag,
    RedisUrlFlag,
    export,
)


def api(
    host: HostFlag = None,
    port: PortFlag = None,
    processes: ProcessesFlag = None,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
    allow_unauthenticated: AllowUnauthenticatedFlag = None,
    inherited: Annotated[str | None, typer.Option(hidden=True, help="What this process shares with others.")] = None,
) -> None:
    """Run the HTTP front end alone, beside a Redis and workers that run elsewhere."""
    export(host=host, port=port, api_processes=processes, data_dir=data_dir, redis_url=redis_url)
    export(allow_unauthenticated=allow_unauthenticated)
    from app.cli.serving.http_server import serve

    serve(inherited)
