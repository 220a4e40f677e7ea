"""`apex worker`: the scoring processes of one machine."""

from app.cli.flags import DataDirFlag, RedisUrlFlag, ServiceDeviceFlag, WeightsDirFlag, WorkersFlag, export


def worker(
    workers: WorkersFlag = None,
    data_dir: DataDirFlag = None,
    redis_url: RedisUrlFlag = None,
    weights: WeightsDirFlag = None,
    device: ServiceDeviceFlag = None,
) -> None:
    """Run the scoring processes of one machine, beside a Redis and an API that run elsewhere."""
    export(workers=workers, data_dir=data_dir, redis_url=redis_url, weights_dir=weights, device=device)
    from worker.main import main

    main()
