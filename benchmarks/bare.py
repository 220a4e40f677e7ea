"""What `benchmarks.uploads` compares with: `python -m benchmarks.bare PORT DIRECTORY [sync]`."""

import os
import shutil
import sys
import uuid
from pathlib import Path

import uvicorn
from fastapi import FastAPI, UploadFile

JOB = {"id": "", "object": "job", "status": "queued", "done": False, "metadata": {}, "result": None, "error": None}


def create_app(directory: Path, *, sync: bool = False) -> FastAPI:
    """Uploads into a directory and records in a dict."""
    app = FastAPI()
    jobs: dict[str, dict[str, object]] = {}

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
    app = create_app(Path(sys.argv[2]), sync="sync" in sys.argv[3:])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)
