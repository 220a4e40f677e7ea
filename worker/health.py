"""`python -m worker.health`: exit 0 when a scoring process of this machine is listening, else 1.

A process registers with RQ after its model is loaded and warm, and its registration expires when its heartbeats stop.
While Redis cannot be asked, the sentence on stderr says why.
"""

import socket
import sys

from redis.exceptions import RedisError
from rq import Queue, Worker

from app.core.misconfiguration import ends_if_misconfigured
from app.core.redis.client import connect
from app.core.redis.failure import explained
from app.core.settings import WorkerSettings, load_settings


def main() -> None:
    """Ask Redis, because the processes themselves listen on no port."""
    with ends_if_misconfigured():
        settings = load_settings(WorkerSettings)
    queue = Queue(settings.rq_queue_name, connection=connect(settings.redis_url, max_retries=0))
    try:
        workers = Worker.all(queue=queue)
    except RedisError as error:
        sys.exit(explained(error))
    sys.exit(0 if any(worker.hostname == socket.gethostname() for worker in workers) else 1)


if __name__ == "__main__":
    main()
