"""A bare upload endpoint, which `benchmarks.uploads` compares with.

python -m benchmarks.baselines.bare_endpoint PORT DIRECTORY [sync] [REDIS_URL]
"""

import json
import os
import shutil
import sys
import uuid
from pathlib import Path

import uvicorn
from fastapi import FastAPI, UploadFile
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

JOB = {"id": "", "object": "job", "status": "queued", "done": False, "metadata": {}, "result": None, "error": None}


def create_app(directory: Path, *, sync: bool = False, redis_url: str | None = None) -> FastAPI:
    """Uploads into a directory and records in a dict; with a Redis also a record there and a job in RQ, in one trip."""
    app = FastAPI()
    jobs: dict[str, dict[str, object]] = {}
    redis = Redis.from_url(redis_url) if redis_url else None
    queue = Queue("scores", connection=redis, serializer=JSONSerializer) if redis else None

    @app.post("/score", status_code=202)
    def score(file: UploadFile) -> dict[str, object]:
        job_id = uuid.uuid4().hex
        with (directory / job_id).open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
            if sync:
                copy.flush()
                os.fsync(copy.fileno())
        if sync:
            sync_directory(directory)
        jobs[job_id] = JOB | {"id": job_id}
        if redis and queue:
            with redis.pipeline() as pipe:
                pipe.hset(f"job:{job_id}", mapping={name: json.dumps(value) for name, value in jobs[job_id].items()})
                queue.enqueue_many([Queue.prepare_data("tasks.score", job_id=job_id)], pipeline=pipe)
                pipe.execute()
        return jobs[job_id]

    @app.get("/jobs/{id}")
    def get_job(id: str) -> dict[str, object]:
        return jobs[id]

    @app.get("/livez")
    def livez() -> dict[str, object]:
        return {}

    return app


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    redis_url = next((option for option in sys.argv[3:] if "://" in option), None)
    app = create_app(Path(sys.argv[2]), sync="sync" in sys.argv[3:], redis_url=redis_url)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)
