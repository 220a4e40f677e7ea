"""Upload a track with the client that openapi-python-client generates, and print its finished job:
`upload.py URL FILE`.
"""

import json
import sys
import time
from pathlib import Path

from client import AuthenticatedClient
from client.api.scoring import get_job, score_track
from client.models import Job, Result, TrackForm, TrackFormMetadata
from client.types import File, Unset


def upload(url: str, path: Path) -> Job:
    with AuthenticatedClient(url, token="a service without keys ignores it") as client, path.open("rb") as track:
        form = TrackForm(
            file=File(track, "track.wav"),
            external_id="openapi_python_client",
            metadata=TrackFormMetadata.from_dict({"album": "x"}),
        )
        job = score_track.sync(client=client, body=form)
        while isinstance(job, Job) and not job.done:
            time.sleep(0.1)
            job = get_job.sync(id=job.id, client=client)
    assert isinstance(job, Job), job
    return job


job = upload(sys.argv[1], Path(sys.argv[2]))
assert isinstance(job.result, Result)
streams: float | Unset = job.result.scores.score_streams
interval: list[float] | Unset = job.result.ranges.score_streams
assert not isinstance(interval, Unset)
sys.stdout.write(json.dumps({**job.to_dict(), "named": [streams, *interval]}))
