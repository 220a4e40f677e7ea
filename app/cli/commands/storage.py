"""`apex storage`: say which storage belongs to a service's Redis."""

import typer

from app.cli.flags import DataDirFlag, RedisUrlFlag, export

app = typer.Typer(no_args_is_help=True, help="Look after the storage of a service.")


@app.callback()
def options() -> None:
    """Keep `adopt` a command of its own: a Typer application with one command would take its place."""


@app.command()
def adopt(data_dir: DataDirFlag = None, redis_url: RedisUrlFlag = None) -> None:
    """Have a Redis and a storage belong together from now on, after one of them was replaced on purpose.

    Audio of jobs that the Redis does not know is deleted from the storage, an hour after it was uploaded.
    """
    export(data_dir=data_dir, redis_url=redis_url)
    from app.cli.serving.service_redis import service_redis
    from app.cli.terminal import note
    from app.core.deployment import Deployment
    from app.core.misconfiguration import named_by_settings
    from app.core.settings import ServiceSettings, load_settings
    from app.core.storage.opening import open_storage

    settings = load_settings(ServiceSettings)
    with service_redis(settings) as redis, named_by_settings():
        storage = open_storage(settings)
        deployment_id = Deployment(redis, settings.redis_keys, storage).adopt()
    note(f"{storage} and this Redis are of the deployment {deployment_id} now.")
