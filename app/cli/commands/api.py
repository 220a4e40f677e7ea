"""`apex api`: serve the HTTP front end with uvicorn."""

from app.cli.flags import AllowUnauthenticatedFlag, DataDirFlag, HostFlag, PortFlag, RedisUrlFlag, export


def api(
    host: HostFlag = None,
    port: PortFlag = None,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
    allow_unauthenticated: AllowUnauthenticatedFlag = None,
) -> None:
    """Run the HTTP front end alone, beside a Redis and workers that run elsewhere."""
    export(host=host, port=port, data_dir=data_dir, redis_url=redis_url, allow_unauthenticated=allow_unauthenticated)
    from app.cli.http_server import serve

    serve()
