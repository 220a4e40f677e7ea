"""Upload a track with the client that openapi-generator generates for Python, and print its finished job:
`upload.py URL FILE`.
"""

import json
import sys
import time

from client import ApiClient, Configuration, Job, ScoringApi


def upload(url: str, path: str) -> Job:
    with ApiClient(Configuration(host=url)) as client:
        api = ScoringApi(client)
        job = api.score_track(file=path, external_id="openapi_generator", metadata={"album": "x"})
        while not job.done:
            time.sleep(0.1)
            job = api.get_job(job.id)
    return job


job = upload(*sys.argv[1:])
assert job.result
streams: float | None = job.result.scores.score_streams
interval: list[float] | None = job.result.ranges.score_streams
assert interval
sys.stdout.write(json.dumps({**job.to_dict(), "named": [streams, *interval]}, default=str))
